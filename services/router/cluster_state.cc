// SPDX-License-Identifier: Apache-2.0
#include "services/router/cluster_state.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/placement/plan.h"
#include "services/common/status_to_grpc.h"

namespace ccoe::services {
namespace {

bool IsBackbone(const Worker& worker) { return worker.report.role() == v1::WORKER_ROLE_BACKBONE; }

// Less is better.
std::tuple<int64_t, double, std::string> LoadOf(const Worker& worker) {
  const v1::WorkerLoad& load = worker.report.load();
  const auto natural = [](int64_t count) { return std::clamp<int64_t>(count, 0, 1 << 30); };
  const int64_t queries =
      natural(load.waiting()) + natural(load.running()) + worker.sent_since_report;
  const double total = static_cast<double>(std::max<int64_t>(1, load.kv_tokens_total()));
  return {queries, static_cast<double>(load.kv_tokens_used()) / total, worker.report.worker_id()};
}

v1::WorkerStatus StatusOf(const Worker& worker, absl::Time now) {
  const v1::WorkerReport& report = worker.report;
  v1::WorkerStatus status;
  status.set_worker_id(report.worker_id());
  status.set_role(report.role());
  status.set_address(report.address());
  status.set_ready(report.ready());
  *status.mutable_load() = report.load();
  for (const v1::HeldExpert& held : report.experts()) {
    *status.add_experts() = held.info().expert();
  }
  *status.mutable_ffn_shard() = report.ffn_shard();
  status.set_ffn_bytes(report.ffn_bytes());
  status.set_numerics(report.numerics());
  status.set_failure(report.failure());
  status.set_silent_seconds(std::max(0.0, absl::ToDoubleSeconds(now - worker.last_report)));
  return status;
}

}  // namespace

ClusterState::ClusterState(const Clock* clock, const WorkerRegistryOptions& options,
                           telemetry::RouterMetrics* metrics, std::optional<placement::Plan> plan)
    : metrics_(*metrics),
      lease_(options.lease),
      registry_(clock, options),
      places_(std::move(plan)) {}

absl::StatusOr<WorkerSession> ClusterState::Register(const v1::WorkerReport& report) {
  absl::MutexLock lock(&mutex_);
  auto session = registry_.Register(report);
  if (session.ok()) {
    Refresh();
  } else {
    metrics_.refused_workers.Increment();
  }
  return session;
}

absl::Status ClusterState::Report(WorkerSession session, const v1::WorkerReport& report) {
  absl::MutexLock lock(&mutex_);
  const absl::Status status = registry_.Report(session, report);
  if (status.ok()) Refresh();
  return status;
}

void ClusterState::Remove(WorkerSession session) {
  absl::MutexLock lock(&mutex_);
  registry_.Remove(session);
  Refresh();
}

std::vector<WorkerSession> ClusterState::Expire() {
  absl::MutexLock lock(&mutex_);
  std::vector<WorkerSession> expired = registry_.Expire();
  metrics_.expired_leases.Increment(static_cast<double>(expired.size()));
  if (!expired.empty()) Refresh();
  return expired;
}

void ClusterState::Refresh() {
  places_.Update(registry_.workers(), registry_.model_fingerprint(), registry_.now());
  int backbones = 0, ready_backbones = 0, experts = 0, ready_experts = 0;
  for (const auto& [id, worker] : registry_.workers()) {
    ++(IsBackbone(worker) ? backbones : experts);
    if (worker.ready()) ++(IsBackbone(worker) ? ready_backbones : ready_experts);
  }
  metrics_.registered_experts.Set(experts);
  metrics_.registered_backbones.Set(backbones);
  metrics_.ready_experts.Set(ready_experts);
  metrics_.ready_backbones.Set(ready_backbones);
  metrics_.held_experts.Set(static_cast<double>(places_.Experts().size()));
  metrics_.table_epoch.Set(static_cast<double>(places_.epoch()));
}

int64_t ClusterState::epoch() const {
  absl::MutexLock lock(&mutex_);
  return places_.epoch();
}

v1::Directive ClusterState::CurrentDirective(const std::string& worker_id,
                                             v1::WorkerRole role) const {
  absl::MutexLock lock(&mutex_);
  return places_.ToDirective(lease_, worker_id, role);
}

absl::StatusOr<v1::PlacementPlan> ClusterState::Plan() const {
  absl::MutexLock lock(&mutex_);
  if (places_.plan().has_value()) return placement::PlanToProto(*places_.plan());
  return absl::NotFoundError("the router was given no placement of FFN experts");
}

v1::ClusterStatus ClusterState::Status() const {
  absl::MutexLock lock(&mutex_);
  v1::ClusterStatus status;
  status.set_epoch(places_.epoch());
  status.set_placement_epoch(places_.plan_epoch());
  status.set_model_fingerprint(registry_.model_fingerprint());
  for (const auto& [id, worker] : registry_.workers()) {
    *status.add_workers() = StatusOf(worker, registry_.now());
  }
  for (v1::ExpertInfo& info : places_.Experts()) *status.add_experts() = std::move(info);
  return status;
}

std::vector<v1::ExpertInfo> ClusterState::Experts() const {
  absl::MutexLock lock(&mutex_);
  return places_.Experts();
}

absl::StatusOr<ExpertRef> ClusterState::Resolve(const ExpertRef& wanted) const {
  absl::MutexLock lock(&mutex_);
  return places_.Resolve(wanted);
}

absl::StatusOr<ExpertRef> ClusterState::ResolveKnown(const ExpertRef& wanted) const {
  absl::MutexLock lock(&mutex_);
  return places_.ResolveKnown(wanted);
}

absl::Status ClusterState::Health() const {
  absl::MutexLock lock(&mutex_);
  return ReadyBackbones().status();
}

absl::StatusOr<std::vector<const Worker*>> ClusterState::ReadyBackbones() const {
  std::vector<const Worker*> ready;
  int registered = 0;
  for (const auto& [id, worker] : registry_.workers()) {
    registered += IsBackbone(worker);
    if (IsBackbone(worker) && worker.ready()) ready.push_back(&worker);
  }
  if (!ready.empty()) return ready;
  return WithRetryAfter(absl::UnavailableError(absl::StrCat("no backbone worker is ready (",
                                                            registered, " registered)")),
                        absl::Seconds(1));
}

absl::StatusOr<std::vector<v1::BackboneWorker>> ClusterState::TakeBackbones() {
  absl::MutexLock lock(&mutex_);
  CCOE_ASSIGN_OR_RETURN(std::vector<const Worker*> ready, ReadyBackbones());
  std::sort(ready.begin(), ready.end(),
            [](const Worker* a, const Worker* b) { return LoadOf(*a) < LoadOf(*b); });
  std::vector<v1::BackboneWorker> workers;
  for (const Worker* worker : ready) {
    v1::BackboneWorker& backbone = workers.emplace_back();
    backbone.set_worker_id(worker->report.worker_id());
    backbone.set_address(worker->report.address());
  }
  registry_.CountSent(workers.front().worker_id());
  return workers;
}

}  // namespace ccoe::services
