// SPDX-License-Identifier: Apache-2.0
#include "services/launcher/process_cluster.h"

#include <signal.h>
#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "httplib.h"
#include "runtime/base/file.h"
#include "runtime/base/status_macros.h"
#include "runtime/placement/plan.h"

namespace ccoe::services {
namespace {

constexpr absl::Duration kPollPause = absl::Milliseconds(50);

// A flag with its value.
template <typename T>
std::string Flag(const char* name, const T& value) {
  return absl::StrCat("--", name, "=", value);
}

void AddMoePolicy(const engine::MoePolicy& policy, std::vector<std::string>& arguments) {
  if (policy.allow_active_experts) {
    arguments.push_back(Flag("moe-active-experts", absl::StrCat(policy.min_active_experts, ":",
                                                                policy.max_active_experts)));
  }
  if (policy.allow_masks) arguments.push_back("--moe-allow-masks");
  if (policy.allow_forced) arguments.push_back("--moe-allow-forced");
}

void AddCompute(const ClusterOptions& options, std::vector<std::string>& arguments) {
  arguments.push_back(Flag("device", options.compute.device));
  arguments.push_back(Flag("math", kernels::DTypeName(options.compute.math)));
  const bool fast = options.compute.numerics == Numerics::kFast;
  arguments.push_back(Flag("numerics", fast ? "fast" : "deterministic"));
  arguments.push_back(Flag("exchange", RowTransportName(options.transport)));
}

// A placement for a child to read, gone with this.
class PlacementFile {
 public:
  PlacementFile() = default;
  PlacementFile(const PlacementFile&) = delete;
  PlacementFile& operator=(const PlacementFile&) = delete;
  ~PlacementFile() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove(path_, ignored);
  }

  absl::StatusOr<std::string> Write(const placement::Plan& plan) {
    std::error_code error;
    const std::filesystem::path folder = std::filesystem::temp_directory_path(error);
    if (error) return absl::UnavailableError(absl::StrCat("temporary folder: ", error.message()));
    path_ = (folder / absl::StrCat("ccoe-placement-", getpid(), ".textproto")).string();
    const std::string text = placement::PlanText(plan);
    CCOE_RETURN_IF_ERROR(WriteFileAtomically(path_, {text}));
    return path_;
  }

 private:
  std::string path_;
};

std::string DeathMessage(ChildProcess& child) {
  return absl::StrCat(child.name(), " (process ", child.pid(), ") died: ", *child.Poll());
}

// "expert" of "expert-2".
std::string RoleOf(const ChildProcess& child) {
  return std::string(child.name().substr(0, child.name().find('-')));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ProcessCluster>> ProcessCluster::Start(const ClusterOptions& options,
                                                                      const std::string& program) {
  std::unique_ptr<ProcessCluster> cluster(new ProcessCluster(options, program));
  CCOE_RETURN_IF_ERROR(cluster->StartAll());
  CCOE_RETURN_IF_ERROR(cluster->AwaitReady());
  return cluster;
}

absl::Status ProcessCluster::Spawn(const std::string& name, bool essential,
                                   const std::vector<std::string>& arguments) {
  if (options_.on_progress) options_.on_progress(absl::StrCat("starting ", name));
  std::vector<std::string> all = arguments;
  all.push_back(Flag("announce-fd", kAnnounceFd));
  all.push_back(Flag("drain-timeout", absl::ToDoubleSeconds(options_.drain_timeout)));
  std::vector<std::string> environment;
  // The processes share one GPU, which NCCL takes for two machines' only if it is told so.
  if (options_.transport == RowTransport::kNccl) {
    environment.push_back(absl::StrCat("NCCL_HOSTID=", name, "-", getpid()));
  }
  CCOE_ASSIGN_OR_RETURN(auto process, ChildProcess::Start(name, program_, all, environment));
  children_.push_back({std::move(process), essential});
  return absl::OkStatus();
}

absl::StatusOr<ProcessCluster::Addresses> ProcessCluster::Await(ChildProcess& child) {
  CCOE_ASSIGN_OR_RETURN(const std::string line, child.ReadAnnouncement(start_deadline_));
  const std::vector<std::string> words = absl::StrSplit(line, ' ');
  if (words.size() != 2) {
    return absl::InternalError(
        absl::StrCat(child.name(), ": expected two addresses, found \"", line, "\""));
  }
  return Addresses{words[0], words[1]};
}

absl::StatusOr<ProcessCluster::Addresses> ProcessCluster::StartRouter(const ExpertPlan& plan) {
  std::vector<std::string> arguments = {"router", "--listen=127.0.0.1:0", "--http=127.0.0.1:0"};
  if (!options_.model.rules_file.empty()) {
    arguments.push_back(Flag("rules", options_.model.rules_file));
  }
  PlacementFile made;  // there until the router has read it
  if (plan.placement.has_value()) {
    std::string file = options_.placement_file;
    if (file.empty()) {
      CCOE_ASSIGN_OR_RETURN(file, made.Write(*plan.placement));
    }
    arguments.push_back(Flag("placement", file));
    arguments.push_back(Flag("model", options_.model.base_folder));
  }
  CCOE_RETURN_IF_ERROR(Spawn("router", /*essential=*/true, arguments));
  return Await(*children_.back().process);
}

absl::Status ProcessCluster::StartWorkers(const std::string& router, const ExpertPlan& plan) {
  const size_t first = children_.size();
  for (int i = 0; i < options_.backbone_workers; ++i) {
    const std::string id = absl::StrCat("backbone-", i);
    CCOE_RETURN_IF_ERROR(
        Spawn(id, /*essential=*/options_.backbone_workers == 1, BackboneArguments(router, id)));
  }
  for (const StartedExpertWorker& worker : plan.workers) {
    CCOE_RETURN_IF_ERROR(
        Spawn(worker.id, /*essential=*/plan.workers.size() == 1, ExpertArguments(router, worker)));
  }
  for (size_t i = first; i < children_.size(); ++i) {
    CCOE_RETURN_IF_ERROR(Await(*children_[i].process).status());
  }
  return absl::OkStatus();
}

absl::Status ProcessCluster::StartAll() {
  start_deadline_ = absl::Now() + options_.start_timeout;
  CCOE_ASSIGN_OR_RETURN(const ExpertPlan plan, PlanExperts(options_));
  CCOE_ASSIGN_OR_RETURN(const Addresses routing, StartRouter(plan));
  CCOE_RETURN_IF_ERROR(StartWorkers(routing.grpc, plan));
  // Last, so that its readiness means all experts.
  CCOE_RETURN_IF_ERROR(
      Spawn("gateway", /*essential=*/true,
            {"gateway", Flag("model", options_.model.base_folder), Flag("router", routing.grpc),
             Flag("listen", options_.listen), Flag("http", options_.http),
             Flag("max-queries", options_.max_queries)}));
  CCOE_ASSIGN_OR_RETURN(const Addresses gateway, Await(*children_.back().process));
  address_ = gateway.grpc;
  http_address_ = gateway.http;
  return absl::OkStatus();
}

std::vector<std::string> ProcessCluster::BackboneArguments(const std::string& router,
                                                           const std::string& id) const {
  const engine::EngineOptions& engine = options_.engine;
  std::vector<std::string> arguments = {
      "backbone",
      Flag("model", options_.model.base_folder),
      Flag("router", router),
      Flag("id", id),
      "--http=127.0.0.1:0",
      Flag("threads", options_.threads),
      Flag("kv-tokens", engine.kv_tokens),
      Flag("step-tokens", engine.max_step_tokens),
      Flag("prefill-chunk", engine.max_prefill_chunk),
      Flag("max-running", engine.max_running),
      Flag("max-waiting", engine.max_waiting),
      Flag("replica-patience", absl::ToDoubleSeconds(engine.replica_patience)),
      Flag("room-patience", absl::ToDoubleSeconds(engine.room_patience)),
      Flag("wire", engine.wire_dtype == kernels::DType::kBF16 ? "bf16" : "f32")};
  for (const std::string& bundle : options_.model.bundle_folders) {
    arguments.push_back(Flag("bundle", bundle));
  }
  if (options_.without_base_top) arguments.push_back("--without-base-top");
  if (engine.combine_on_workers) arguments.push_back("--combine-on-workers");
  AddMoePolicy(engine.moe_policy, arguments);
  AddCompute(options_, arguments);
  return arguments;
}

std::vector<std::string> ProcessCluster::ExpertArguments(const std::string& router,
                                                         const StartedExpertWorker& worker) const {
  std::vector<std::string> arguments = {"expert",
                                        Flag("model", options_.model.base_folder),
                                        Flag("router", router),
                                        Flag("id", worker.id),
                                        "--http=127.0.0.1:0",
                                        Flag("threads", options_.threads),
                                        Flag("kv-tokens", options_.expert_kv_tokens)};
  for (const std::string& bundle : worker.bundles) arguments.push_back(Flag("bundle", bundle));
  AddCompute(options_, arguments);
  return arguments;
}

absl::Status ProcessCluster::AwaitReady() {
  if (options_.on_progress) options_.on_progress("generating a token with each expert");
  httplib::Client client("http://" + http_address_);
  std::string found = "no answer";
  while (absl::Now() < start_deadline_) {
    // First: clients may use a gateway that is ready, and from then on a death is Watch's to judge.
    if (const httplib::Result result = client.Get("/healthz")) {
      if (result->status == 200) return absl::OkStatus();
      found = result->body;
    }
    for (Child& child : children_) {
      if (child.process->Poll().has_value()) {
        return absl::UnavailableError(DeathMessage(*child.process));
      }
    }
    absl::SleepFor(kPollPause);
  }
  return absl::DeadlineExceededError(absl::StrCat("the cluster did not answer within ",
                                                  absl::FormatDuration(options_.start_timeout),
                                                  ": ", found));
}

absl::Status ProcessCluster::Watch(const std::function<bool()>& stopped,
                                   const std::function<void(const std::string&)>& on_death) {
  while (!stopped()) {
    for (Child& child : children_) {
      if (child.death_told || !child.process->Poll().has_value()) continue;
      child.death_told = true;
      const std::string message = DeathMessage(*child.process);
      if (child.essential) return absl::UnavailableError(message);
      on_death(message);
    }
    absl::SleepFor(kPollPause);
  }
  return absl::OkStatus();
}

absl::Status ProcessCluster::Drain() {
  std::vector<std::string> bad;
  // From the last started to the first: each needs those before it to end its work, but for those
  // of one role, which do not need each other.
  for (auto first = children_.rbegin(); first != children_.rend();) {
    const std::string role = RoleOf(*first->process);
    auto last = first;
    while (last != children_.rend() && RoleOf(*last->process) == role) ++last;
    std::vector<ChildProcess*> draining;
    for (; first != last; ++first) {
      if (first->process->Poll().has_value()) continue;  // told already
      first->process->Signal(SIGTERM);
      draining.push_back(first->process.get());
    }
    // The child's own bound is the same; a little more lets it say why it ended.
    const absl::Time deadline = absl::Now() + options_.drain_timeout + absl::Seconds(5);
    for (ChildProcess* child : draining) {
      if (!child->WaitUntil(deadline)) {
        child->Signal(SIGKILL);
        child->WaitUntil(absl::InfiniteFuture());
      }
      if (!child->ended_well()) bad.push_back(DeathMessage(*child));
    }
  }
  if (bad.empty()) return absl::OkStatus();
  return absl::UnavailableError(absl::StrJoin(bad, "; "));
}

}  // namespace ccoe::services
