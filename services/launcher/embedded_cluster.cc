// SPDX-License-Identifier: Apache-2.0
#include "services/launcher/embedded_cluster.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/status_macros.h"

namespace ccoe::services {
namespace {

constexpr char kRouter[] = "router";
constexpr absl::Duration kPollPause = absl::Milliseconds(10);

ServeOptions InProcessOnly(const std::string& name) {
  ServeOptions serve;
  serve.listen.clear();
  serve.in_process_name = name;
  return serve;
}

std::string RouterAddress() { return absl::StrCat("inproc:", kRouter); }

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

EmbeddedCluster::~EmbeddedCluster() { Drain(absl::ZeroDuration()); }

absl::StatusOr<std::unique_ptr<EmbeddedCluster>> EmbeddedCluster::Create(
    const ClusterOptions& options, ExchangeKind exchange, ThreadTeam* team,
    telemetry::Metrics* metrics) {
  std::unique_ptr<EmbeddedCluster> cluster(new EmbeddedCluster(options, exchange, team, metrics));
  CCOE_RETURN_IF_ERROR(cluster->StartAll());
  return cluster;
}

absl::Status EmbeddedCluster::StartAll() {
  CCOE_ASSIGN_OR_RETURN(compute_, Compute::Create(options_.compute, team_));
  environment_.compute = compute_.get();
  CCOE_ASSIGN_OR_RETURN(const ExpertPlan plan, PlanExperts(options_));
  RouterOptions router;
  router.rules_file = options_.model.rules_file;
  router.placement = plan.placement;
  router.placement_file = options_.placement_file;
  router.model_folder = options_.model.base_folder;
  router.serve = InProcessOnly(kRouter);
  CCOE_ASSIGN_OR_RETURN(router_, Router::Create(router, environment_));
  CCOE_RETURN_IF_ERROR(StartBackbones());
  CCOE_RETURN_IF_ERROR(StartExperts(plan));

  GatewayOptions gateway;
  gateway.model_folder = options_.model.base_folder;
  gateway.router = RouterAddress();
  gateway.listen = {options_.listen};
  gateway.max_queries = options_.max_queries;
  CCOE_ASSIGN_OR_RETURN(gateway_, Gateway::Create(gateway, environment_));
  return absl::OkStatus();
}

absl::Status EmbeddedCluster::StartBackbones() {
  for (int i = 0; i < options_.backbone_workers; ++i) {
    BackboneWorkerOptions backbone;
    backbone.worker_id = absl::StrCat("backbone-", i);
    backbone.model_folder = options_.model.base_folder;
    backbone.bundle_folders = options_.model.bundle_folders;
    backbone.without_base_top = options_.without_base_top;
    backbone.router = RouterAddress();
    backbone.serve = InProcessOnly(backbone.worker_id);
    backbone.engine = options_.engine;
    CCOE_ASSIGN_OR_RETURN(auto worker, BackboneWorker::Create(backbone, environment_));
    backbones_.push_back(std::move(worker));
  }
  return absl::OkStatus();
}

absl::Status EmbeddedCluster::StartExperts(const ExpertPlan& plan) {
  for (const StartedExpertWorker& started : plan.workers) {
    ExpertWorkerOptions expert;
    expert.worker_id = started.id;
    expert.base_folder = options_.model.base_folder;
    expert.bundle_folders = started.bundles;
    expert.router = RouterAddress();
    expert.serve = InProcessOnly(expert.worker_id);
    expert.host.kv_tokens = options_.expert_kv_tokens;
    CCOE_ASSIGN_OR_RETURN(auto worker, ExpertWorker::Create(expert, environment_));
    experts_.push_back(std::move(worker));
  }
  return absl::OkStatus();
}

absl::Status EmbeddedCluster::WaitReady(absl::Time deadline) const {
  while (true) {
    const absl::Status ready = gateway_->ready();
    if (ready.ok()) return ready;
    if (absl::Now() >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("the cluster does not answer: ", ready.message()));
    }
    absl::SleepFor(kPollPause);
  }
}

void EmbeddedCluster::Drain(absl::Duration grace) {
  // Each needs those after it to end its work.
  const absl::Time deadline = absl::Now() + grace;
  if (gateway_ != nullptr) gateway_->Drain(grace);
  for (const auto& backbone : backbones_) {
    backbone->Drain(std::max(deadline - absl::Now(), absl::ZeroDuration()));
  }
  // Nothing is in flight any more.
  for (const auto& expert : experts_) expert->Drain(absl::ZeroDuration());
  if (router_ != nullptr) router_->Drain(absl::ZeroDuration());
}

}  // namespace ccoe::services
