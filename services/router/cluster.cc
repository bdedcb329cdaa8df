#include "services/router/cluster.h"

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

Cluster::Cluster(const Clock* clock, const WorkerRegistryOptions& options,
                 telemetry::RouterMetrics* metrics, std::optional<placement::Plan> plan)
    : metrics_(*metrics),
      lease_(options.lease),
      registry_(clock, options),
      placement_(std::move(plan)) {}

absl::StatusOr<WorkerSession> Cluster::Register(const v1::WorkerReport& report, bool* changed) {
  absl::MutexLock lock(&mutex_);
  auto session = registry_.Register(report);
  if (!session.ok()) metrics_.refused_workers.Increment();
  *changed = session.ok() && Refresh();
  return session;
}

absl::Status Cluster::Report(WorkerSession session, const v1::WorkerReport& report, bool* changed) {
  absl::MutexLock lock(&mutex_);
  const absl::Status status = registry_.Report(session, report);
  *changed = status.ok() && Refresh();
  return status;
}

void Cluster::Remove(WorkerSession session, bool* changed) {
  absl::MutexLock lock(&mutex_);
  registry_.Remove(session);
  *changed = Refresh();
}

std::vector<WorkerSession> Cluster::Expire(bool* changed) {
  absl::MutexLock lock(&mutex_);
  std::vector<WorkerSession> expired = registry_.Expire();
  metrics_.expired_leases.Increment(static_cast<double>(expired.size()));
  *changed = !expired.empty() && Refresh();
  return expired;
}

bool Cluster::Refresh() {
  const bool changed =
      placement_.Update(registry_.workers(), registry_.model_fingerprint(), registry_.now());
  int registered[2] = {0, 0};  // expert workers, backbone workers
  int ready[2] = {0, 0};
  for (const auto& [id, worker] : registry_.workers()) {
    ++registered[IsBackbone(worker)];
    if (worker.ready()) ++ready[IsBackbone(worker)];
  }
  metrics_.registered_experts.Set(registered[0]);
  metrics_.registered_backbones.Set(registered[1]);
  metrics_.ready_experts.Set(ready[0]);
  metrics_.ready_backbones.Set(ready[1]);
  metrics_.held_experts.Set(static_cast<double>(placement_.Experts().size()));
  metrics_.table_epoch.Set(static_cast<double>(placement_.epoch()));
  return changed;
}

v1::Directive Cluster::CurrentDirective(const std::string& worker_id, v1::WorkerRole role) const {
  absl::MutexLock lock(&mutex_);
  return placement_.ToDirective(lease_, worker_id, role);
}

absl::StatusOr<v1::PlacementPlan> Cluster::Plan() const {
  absl::MutexLock lock(&mutex_);
  if (placement_.plan().has_value()) return placement::PlanToProto(*placement_.plan());
  return absl::NotFoundError("the router was given no placement of FFN experts");
}

v1::ClusterStatus Cluster::Status() const {
  absl::MutexLock lock(&mutex_);
  v1::ClusterStatus status;
  status.set_epoch(placement_.epoch());
  status.set_placement_epoch(placement_.plan_epoch());
  status.set_model_fingerprint(registry_.model_fingerprint());
  for (const auto& [id, worker] : registry_.workers()) {
    *status.add_workers() = StatusOf(worker, registry_.now());
  }
  for (v1::ExpertInfo& info : placement_.Experts()) *status.add_experts() = std::move(info);
  return status;
}

std::vector<v1::ExpertInfo> Cluster::Experts() const {
  absl::MutexLock lock(&mutex_);
  return placement_.Experts();
}

absl::StatusOr<ExpertRef> Cluster::Resolve(const ExpertRef& wanted) const {
  absl::MutexLock lock(&mutex_);
  return placement_.Resolve(wanted);
}

absl::StatusOr<ExpertRef> Cluster::ResolveKnown(const ExpertRef& wanted) const {
  absl::MutexLock lock(&mutex_);
  return placement_.ResolveKnown(wanted);
}

absl::Status Cluster::Health() const {
  absl::MutexLock lock(&mutex_);
  return ReadyBackbones().status();
}

absl::StatusOr<std::vector<const Worker*>> Cluster::ReadyBackbones() const {
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

absl::StatusOr<std::vector<v1::BackboneWorker>> Cluster::TakeBackbones() {
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
