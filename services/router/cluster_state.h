// SPDX-License-Identifier: Apache-2.0
// The router's view of the cluster: who is there, who holds what, whom to send a query to.
#ifndef CCOE_SERVICES_ROUTER_CLUSTER_STATE_H_
#define CCOE_SERVICES_ROUTER_CLUSTER_STATE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "ccoe/v1/control.pb.h"
#include "ccoe/v1/routing.pb.h"
#include "runtime/base/clock.h"
#include "runtime/base/ids.h"
#include "runtime/placement/plan.h"
#include "runtime/telemetry/metrics.h"
#include "services/router/expert_places.h"
#include "services/router/worker_registry.h"

namespace ccoe::services {

// WorkerRegistry and ExpertPlaces under one lock, and their metrics. Thread-safe.
class ClusterState {
 public:
  // `clock` and `metrics` outlive the cluster. `plan`: as in ExpertPlaces.
  ClusterState(const Clock* clock, const WorkerRegistryOptions& options,
               telemetry::RouterMetrics* metrics,
               std::optional<placement::Plan> plan = std::nullopt);

  // As WorkerRegistry. The epoch has risen after those that changed the expert table.
  absl::StatusOr<WorkerSession> Register(const v1::WorkerReport& report)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Report(WorkerSession session, const v1::WorkerReport& report)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Remove(WorkerSession session) ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<WorkerSession> Expire() ABSL_LOCKS_EXCLUDED(mutex_);

  // As ExpertPlaces.
  int64_t epoch() const ABSL_LOCKS_EXCLUDED(mutex_);
  v1::Directive CurrentDirective(const std::string& worker_id, v1::WorkerRole role) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The placement of FFN experts. NOT_FOUND where there is none.
  absl::StatusOr<v1::PlacementPlan> Plan() const ABSL_LOCKS_EXCLUDED(mutex_);
  v1::ClusterStatus Status() const ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<v1::ExpertInfo> Experts() const ABSL_LOCKS_EXCLUDED(mutex_);

  // As ExpertPlaces'.
  absl::StatusOr<ExpertRef> Resolve(const ExpertRef& wanted) const ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<ExpertRef> ResolveKnown(const ExpertRef& wanted) const ABSL_LOCKS_EXCLUDED(mutex_);

  // The ready backbone workers, least loaded first: fewest queries waiting, running or just sent,
  // then the least part of the KV cache in use, then by id. The first is counted as getting a
  // query. UNAVAILABLE where there is none, with a hint to retry.
  absl::StatusOr<std::vector<v1::BackboneWorker>> TakeBackbones() ABSL_LOCKS_EXCLUDED(mutex_);

  // OK while a backbone worker is ready.
  absl::Status Health() const ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Duration lease() const { return lease_; }

 private:
  // After every change of the registry.
  void Refresh() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::vector<const Worker*>> ReadyBackbones() const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  telemetry::RouterMetrics& metrics_;
  const absl::Duration lease_;
  mutable absl::Mutex mutex_;
  WorkerRegistry registry_ ABSL_GUARDED_BY(mutex_);
  ExpertPlaces places_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_ROUTER_CLUSTER_STATE_H_
