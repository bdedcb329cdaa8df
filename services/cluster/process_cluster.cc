#include "services/cluster/process_cluster.h"

#include <signal.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "httplib.h"
#include "runtime/base/status_macros.h"
#include "services/cluster/assignment.h"

namespace ccoe::services {
namespace {

constexpr absl::Duration kPollPause = absl::Milliseconds(50);

// A flag with its value.
template <typename T>
std::string Flag(const char* name, const T& value) {
  return absl::StrCat("--", name, "=", value);
}

std::string DeathMessage(ChildProcess& child) {
  return absl::StrCat(child.name(), " (process ", child.pid(), ") died: ", *child.Poll());
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
  CCOE_ASSIGN_OR_RETURN(auto process, ChildProcess::Start(name, program_, all));
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

absl::Status ProcessCluster::StartAll() {
  start_deadline_ = absl::Now() + options_.start_timeout;
  std::vector<std::string> router = {"router", "--listen=127.0.0.1:0", "--http=127.0.0.1:0"};
  if (!options_.model.rules_file.empty())
    router.push_back(Flag("rules", options_.model.rules_file));
  CCOE_RETURN_IF_ERROR(Spawn("router", /*essential=*/true, router));
  CCOE_ASSIGN_OR_RETURN(const Addresses routing, Await(*children_.back().process));

  CCOE_RETURN_IF_ERROR(Spawn("backbone-0", /*essential=*/true, BackboneArguments(routing.grpc)));
  const auto held = AssignBundles(options_.model.bundle_folders, options_.expert_workers);
  for (size_t i = 0; i < held.size(); ++i) {
    const int index = static_cast<int>(i);
    CCOE_RETURN_IF_ERROR(Spawn(absl::StrCat("expert-", i), /*essential=*/held.size() == 1,
                               ExpertArguments(routing.grpc, index, held[i])));
  }
  for (size_t i = 1; i < children_.size(); ++i) {
    CCOE_RETURN_IF_ERROR(Await(*children_[i].process).status());
  }
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

std::vector<std::string> ProcessCluster::BackboneArguments(const std::string& router) const {
  const engine::EngineOptions& engine = options_.engine;
  std::vector<std::string> arguments = {
      "backbone",
      Flag("model", options_.model.base_folder),
      Flag("router", router),
      "--id=backbone-0",
      "--http=127.0.0.1:0",
      Flag("threads", options_.threads),
      Flag("kv-tokens", engine.kv_tokens),
      Flag("step-tokens", engine.max_step_tokens),
      Flag("prefill-chunk", engine.max_prefill_chunk),
      Flag("max-running", engine.max_running),
      Flag("max-waiting", engine.max_waiting),
      Flag("wire", engine.wire_dtype == kernels::DType::kBF16 ? "bf16" : "f32")};
  for (const std::string& bundle : options_.model.bundle_folders) {
    arguments.push_back(Flag("bundle", bundle));
  }
  if (options_.without_base_top) arguments.push_back("--without-base-top");
  return arguments;
}

std::vector<std::string> ProcessCluster::ExpertArguments(
    const std::string& router, int index, const std::vector<std::string>& bundles) const {
  std::vector<std::string> arguments = {"expert",
                                        Flag("model", options_.model.base_folder),
                                        Flag("router", router),
                                        absl::StrCat("--id=expert-", index),
                                        "--http=127.0.0.1:0",
                                        Flag("threads", options_.threads),
                                        Flag("kv-tokens", options_.expert_kv_tokens)};
  for (const std::string& bundle : bundles) arguments.push_back(Flag("bundle", bundle));
  return arguments;
}

absl::Status ProcessCluster::AwaitReady() {
  if (options_.on_progress) options_.on_progress("generating a token with each expert");
  httplib::Client client("http://" + http_address_);
  std::string found = "no answer";
  while (absl::Now() < start_deadline_) {
    for (Child& child : children_) {
      if (child.process->Poll().has_value()) {
        return absl::UnavailableError(DeathMessage(*child.process));
      }
    }
    if (const httplib::Result result = client.Get("/healthz")) {
      if (result->status == 200) return absl::OkStatus();
      found = result->body;
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
  // From the last started to the first: each needs those before it to end its work.
  for (auto it = children_.rbegin(); it != children_.rend(); ++it) {
    ChildProcess& child = *it->process;
    if (child.Poll().has_value()) continue;  // told already
    child.Signal(SIGTERM);
    // The child's own bound is the same; a little more lets it say why it ended.
    if (!child.WaitUntil(absl::Now() + options_.drain_timeout + absl::Seconds(5))) {
      child.Signal(SIGKILL);
      child.WaitUntil(absl::InfiniteFuture());
    }
    if (!child.ended_well()) bad.push_back(DeathMessage(child));
  }
  if (bad.empty()) return absl::OkStatus();
  return absl::UnavailableError(absl::StrJoin(bad, "; "));
}

}  // namespace ccoe::services
