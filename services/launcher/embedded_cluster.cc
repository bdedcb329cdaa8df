// SPDX-License-Identifier: Apache-2.0
#include "services/launcher/embedded_cluster.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/status_macros.h"
#include "services/common/server_runner.h"

namespace ccoe::services {
namespace {

constexpr absl::Duration kPollPause = absl::Milliseconds(10);

// A role that the others reach without a port.
void ServeInProcess(RoleOptions& role) {
  ServeOptions* serve = ServeOf(role);
  if (serve == nullptr) return;
  serve->listen.clear();
  serve->in_process_name = NameOf(role);
}

}  // namespace

EmbeddedCluster::EmbeddedCluster(const ClusterOptions& options, ExchangeKind exchange,
                                 ThreadTeam* team, telemetry::Metrics* metrics)
    : options_(options), team_(team), channels_(&in_process_) {
  environment_.channels = &channels_;
  environment_.metrics = metrics;
  environment_.in_process = &in_process_;
  environment_.local_peers = exchange == ExchangeKind::kLocal ? &local_peers_ : nullptr;
  environment_.on_progress = options.on_progress;
}

EmbeddedCluster::~EmbeddedCluster() {
  Drain(absl::ZeroDuration());
  // The backbone workers' links may lead into the expert workers.
  for (const RoleKind kind : kDrainOrder) {
    for (Started& started : roles_) {
      if (started.kind == kind) started.role.reset();
    }
  }
}

absl::StatusOr<std::unique_ptr<EmbeddedCluster>> EmbeddedCluster::Create(
    const ClusterOptions& options, ExchangeKind exchange, ThreadTeam* team,
    telemetry::Metrics* metrics) {
  std::unique_ptr<EmbeddedCluster> cluster(new EmbeddedCluster(options, exchange, team, metrics));
  CCOE_RETURN_IF_ERROR(cluster->StartAll());
  return cluster;
}

absl::Status EmbeddedCluster::StartAll() {
  CCOE_RETURN_IF_ERROR(CheckListening(options_.gateway.gateway.listen, /*http=*/""));
  CCOE_ASSIGN_OR_RETURN(compute_, Compute::Create(options_.backbone.compute, team_));
  environment_.compute = compute_.get();
  CCOE_ASSIGN_OR_RETURN(std::vector<RoleOptions> plan, PlanCluster(options_));
  for (RoleOptions& role : plan) {
    ServeInProcess(role);
    if (!roles_.empty()) SetRouterAddress(roles_.front().role->address(), role);
    CCOE_ASSIGN_OR_RETURN(auto started, StartRole(role, environment_));
    roles_.push_back({KindOf(role), std::move(started)});
  }
  return absl::OkStatus();
}

absl::Status EmbeddedCluster::WaitReady(absl::Time deadline) const {
  while (true) {
    const absl::Status found = ready();
    if (found.ok()) return found;
    if (absl::Now() >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("the cluster does not answer: ", found.message()));
    }
    absl::SleepFor(kPollPause);
  }
}

void EmbeddedCluster::Drain(absl::Duration grace) {
  const absl::Time deadline = absl::Now() + grace;
  for (const RoleKind kind : kDrainOrder) {
    // Behind gateway and backbone workers nothing is in flight any more.
    const bool works = kind == RoleKind::kGateway || kind == RoleKind::kBackbone;
    for (const Started& started : roles_) {
      if (started.kind != kind) continue;
      const absl::Duration left = std::max(deadline - absl::Now(), absl::ZeroDuration());
      started.role->Drain(works ? left : absl::ZeroDuration());
    }
  }
}

}  // namespace ccoe::services
