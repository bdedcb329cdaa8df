// SPDX-License-Identifier: Apache-2.0
// An expert worker: loads bundles of layer experts and the FFN experts that the router assigns to
// it, serves them over links, tells the router what it holds.
#ifndef CCOE_SERVICES_EXPERT_WORKER_H_
#define CCOE_SERVICES_EXPERT_WORKER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ccoe/v1/control.pb.h"
#include "runtime/exchange/grpc/exchange_service.h"
#include "runtime/experts/unit_host.h"
#include "runtime/model/memory_plan.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"
#include "runtime/telemetry/metrics.h"
#include "services/common/role_environment.h"
#include "services/common/row_carriers.h"
#include "services/common/worker_server.h"
#include "services/expert/load_experts.h"

namespace ccoe::services {

// Brings `metrics` up to date with all experts of one host. Calls for one worker's metrics must not
// overlap.
void SampleHost(const experts::HostLoad& load, telemetry::ExpertMetrics& metrics);

struct ExpertWorkerOptions {
  std::string worker_id = "expert-0";  // unique in the cluster
  // The base model. Its weights may be missing for bundles (see OpenBundles); FFN experts are read
  // from them.
  std::string base_folder;
  std::vector<std::string> bundle_folders;  // at least one, unless the model has FFN experts
  std::string router;                       // address
  ServeOptions serve;
  // Which units it hosts, its kv_dtype and its numerics follow from the bundles, the model and the
  // device.
  experts::UnitHostOptions host;
  RowTransport transport = RowTransport::kAuto;  // of rows from backbone workers that ask
};

// Thread-safe. Destruction stops serving at once.
class ExpertWorker {
 public:
  // Loads, serves and registers; returns once the router knows the worker and what was assigned to
  // it is loaded. Errors name the file, tensor, address or peer.
  static absl::StatusOr<std::unique_ptr<ExpertWorker>> Create(const ExpertWorkerOptions& options,
                                                              const RoleEnvironment& environment);
  ~ExpertWorker();

  // Leaves the router's table, waits for running swaps until `grace` is over, then closes the
  // links.
  void Drain(absl::Duration grace);

  // What others dial.
  const std::string& address() const { return server_->address(); }
  // OK while the router hears the worker, its device computes and what was assigned to it last is
  // loaded.
  absl::Status status() const { return server_->status(); }
  experts::HostLoad Load() const { return host_->Load(); }

 private:
  ExpertWorker(const ExpertWorkerOptions& options, const RoleEnvironment& environment)
      : options_(options), environment_(environment) {}

  absl::Status LoadExperts() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status MakeHost(const model::ModelSpec& spec) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status LoadBundles(const model::ModelSpec& spec) ABSL_LOCKS_EXCLUDED(mutex_);
  // Loads what the directive assigns and is not held yet.
  void TakeDirective(const v1::Directive& directive) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status AddAssigned(const v1::FfnShard& assignment);
  // Refuses what does not fit into the device's memory beside what is held.
  absl::Status Fit(const model::MemoryPlan& plan) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Serve();
  // OK while rows can be taken.
  absl::Status Health() const ABSL_LOCKS_EXCLUDED(mutex_);
  void FillReport(v1::WorkerReport& report) const ABSL_LOCKS_EXCLUDED(mutex_);

  const ExpertWorkerOptions options_;
  const RoleEnvironment environment_;
  experts::UnitHostOptions host_options_;
  WorkerIdentity identity_;
  std::vector<v1::HeldExpert> held_;
  std::unique_ptr<exchange::RowCarrierFactory> carriers_;  // null: rows in messages
  // In the order in which they need each other.
  std::unique_ptr<experts::UnitHost> host_;
  std::shared_ptr<const model::Weights> ffn_weights_;  // opened by the first assignment
  mutable absl::Mutex mutex_;
  // Of the last assignment of FFN experts; OK for a model without.
  absl::Status assigned_ ABSL_GUARDED_BY(mutex_);
  int64_t planned_bytes_ ABSL_GUARDED_BY(mutex_) = 0;  // of the device's memory
  std::unique_ptr<telemetry::Metrics::Sampler> sampler_;
  std::unique_ptr<exchange::ExchangeService> service_;
  std::unique_ptr<WorkerServer> server_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_EXPERT_WORKER_H_
