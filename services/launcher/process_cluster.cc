// SPDX-License-Identifier: Apache-2.0
#include "services/launcher/process_cluster.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <utility>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "httplib.h"
#include "runtime/base/status_macros.h"
#include "runtime/placement/plan.h"
#include "services/common/row_carriers.h"
#include "services/common/server_runner.h"

namespace ccoe::services {
namespace {

constexpr absl::Duration kPollPause = absl::Milliseconds(50);

// A child is what its config says: variables that set flags are for this process alone. The log's
// level is no role's flag.
bool IsForThisProcess(absl::string_view variable) {
  return absl::StartsWith(variable, "CCOE_") && variable != "CCOE_LOG";
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

absl::Status ProcessCluster::Spawn(RoleOptions role, bool essential) {
  const std::string name = NameOf(role);
  if (options_.on_progress) options_.on_progress(absl::StrCat("starting ", name));
  ChildSettings settings;
  settings.hides = IsForThisProcess;
  settings.files = {""};
  auto* router = std::get_if<RouterRole>(&role);
  if (router != nullptr && router->router.placement_file.empty() &&
      router->router.placement.has_value()) {
    router->router.placement_file = ChildFilePath(settings.files.size());
    settings.files.push_back(placement::PlanText(*router->router.placement));
  }
  settings.files[0] = ConfigTextOf(role);
  // The processes share one GPU, which NCCL takes for two machines' only if it is told so.
  if (options_.backbone.worker.transport == RowTransport::kNccl) {
    settings.environment.push_back(absl::StrCat("NCCL_HOSTID=", name, "-", getpid()));
  }
  const std::vector<std::string> arguments = {KindName(KindOf(role)),
                                              absl::StrCat("--config=", ChildFilePath(0)),
                                              absl::StrCat("--announce-fd=", kAnnounceFd)};
  CCOE_ASSIGN_OR_RETURN(auto process, ChildProcess::Start(name, program_, arguments, settings));
  children_.push_back({std::move(process), KindOf(role), essential});
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
  CCOE_RETURN_IF_ERROR(
      CheckListening(options_.gateway.gateway.listen, options_.gateway.process.http));
  CCOE_ASSIGN_OR_RETURN(std::vector<RoleOptions> roles, PlanCluster(options_));
  std::array<int, std::variant_size_v<RoleOptions>> count = {};
  for (const RoleOptions& role : roles) ++count[role.index()];
  const auto spawn = [&](size_t i) { return Spawn(roles[i], count[roles[i].index()] == 1); };
  CCOE_RETURN_IF_ERROR(spawn(0));
  CCOE_ASSIGN_OR_RETURN(const Addresses router, Await(*children_.front().process));
  for (RoleOptions& role : roles) SetRouterAddress(router.grpc, role);
  // The workers load at the same time. The gateway comes last, so that its readiness means all
  // experts.
  const size_t last = roles.size() - 1;
  for (size_t i = 1; i < last; ++i) CCOE_RETURN_IF_ERROR(spawn(i));
  for (size_t i = 1; i < last; ++i) {
    CCOE_RETURN_IF_ERROR(Await(*children_[i].process).status());
  }
  CCOE_RETURN_IF_ERROR(spawn(last));
  CCOE_ASSIGN_OR_RETURN(const Addresses gateway, Await(*children_.back().process));
  address_ = gateway.grpc;
  http_address_ = gateway.http;
  return absl::OkStatus();
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
  for (const RoleKind kind : kDrainOrder) {
    std::vector<ChildProcess*> draining;
    for (Child& child : children_) {
      if (child.kind != kind || child.process->Poll().has_value()) continue;  // told already
      child.process->Signal(SIGTERM);
      draining.push_back(child.process.get());
    }
    // The child's own bound is the same; a little more lets it say why it ended.
    const absl::Time deadline =
        absl::Now() + options_.gateway.process.drain_timeout + absl::Seconds(5);
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
