// SPDX-License-Identifier: Apache-2.0
// A backbone worker: the engine over the shared layers, links to expert workers, the Backbone
// service.
#ifndef CCOE_SERVICES_BACKBONE_WORKER_H_
#define CCOE_SERVICES_BACKBONE_WORKER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ccoe/v1/control.pb.h"
#include "kernels/op_shapes.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/moe_statistics.h"
#include "services/backbone/backbone_service.h"
#include "services/backbone/expert_table.h"
#include "services/backbone/load_backbone.h"
#include "services/backbone/metrics.h"
#include "services/common/role_environment.h"
#include "services/common/row_carriers.h"
#include "services/common/worker_server.h"

namespace ccoe::services {

struct BackboneWorkerOptions {
  std::string worker_id = "backbone-0";  // unique in the cluster
  std::string model_folder;
  // Bundles of the experts, for those that bring their own norm or head, and for without_base_top.
  // May be empty.
  std::vector<std::string> bundle_folders;
  // Hold only the layers that some expert needs below it: queries without expert are then refused.
  // Needs bundle_folders.
  bool without_base_top = false;
  std::string router;  // address
  ServeOptions serve;
  engine::EngineOptions engine;                  // its kv_dtype is the device's
  RowTransport transport = RowTransport::kAuto;  // of rows to expert workers in other processes
};

// Thread-safe. Destruction cancels what runs.
class BackboneWorker {
 public:
  // Loads, serves and registers; returns once the router knows the worker. Errors name the file,
  // tensor, address or peer.
  static absl::StatusOr<std::unique_ptr<BackboneWorker>> Create(
      const BackboneWorkerOptions& options, const RoleEnvironment& environment);
  ~BackboneWorker();

  // Leaves the router's table, lets running queries end until `grace` is over, cancels the rest.
  void Drain(absl::Duration grace);

  // What others dial.
  const std::string& address() const { return server_->address(); }
  // OK while the router hears the worker and its device computes.
  absl::Status status() const { return server_->status(); }
  engine::EngineLoad Load() const { return engine_->Load(); }

 private:
  BackboneWorker(const BackboneWorkerOptions& options, const RoleEnvironment& environment)
      : options_(options), environment_(environment) {}

  absl::Status LoadModel();
  // The FFN experts that this worker runs itself, as the router's placement says; all where it has
  // none.
  absl::StatusOr<model::FfnShard> FfnExpertsHere(const model::ModelSpec& spec) const;
  // Refuses what does not fit into the device's memory.
  absl::Status PlanMemory(int32_t layers, const model::FfnShard& experts,
                          const engine::EngineOptions& engine, const kernels::OpShapes& shapes);
  absl::StatusOr<std::unique_ptr<exchange::ActivationLink>> OpenLink(const std::string& address);
  absl::Status Serve();
  void FillReport(v1::WorkerReport& report) const;

  const BackboneWorkerOptions options_;
  const RoleEnvironment environment_;
  WorkerIdentity identity_;
  std::unique_ptr<exchange::RowCarrierFactory> carriers_;  // null: rows in messages
  std::shared_ptr<exchange::RowMemory> local_rows_;        // of links within this process
  int64_t planned_bytes_ = 0;                              // of the device's memory
  LoadedBackbone loaded_;
  std::optional<BaseFingerprints> fingerprints_;  // of the expert table's thread
  // In the order in which they need each other.
  std::unique_ptr<EngineMetrics> metrics_;
  std::unique_ptr<engine::MoeStatistics> moe_statistics_;  // null: a model without MoE layers
  std::unique_ptr<ExpertTable> experts_;
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<telemetry::Metrics::Sampler> sampler_;
  std::unique_ptr<QueryEngine> queries_;
  std::unique_ptr<BackboneService> service_;
  std::unique_ptr<WorkerServer> server_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_BACKBONE_WORKER_H_
