// SPDX-License-Identifier: Apache-2.0
#include "services/backbone/worker.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "ccoe/v1/placement.pb.h"
#include "glog/logging.h"
#include "kernels/numerics_class.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/engine/model_runner.h"
#include "runtime/exchange/grpc/grpc_link.h"
#include "runtime/exchange/local/local_link.h"
#include "runtime/model/families/hf_config.h"
#include "runtime/placement/plan.h"
#include "services/backbone/load_backbone.h"
#include "services/backbone/metrics.h"
#include "services/common/compute.h"
#include "services/common/model_report.h"
#include "services/common/row_carriers.h"
#include "services/common/stubs.h"
#include "services/common/worker_server.h"

namespace ccoe::services {
namespace {

constexpr absl::Duration kOpenLinkTimeout = absl::Seconds(5);
// Communicators take their time to meet.
constexpr absl::Duration kOpenCarrierTimeout = absl::Seconds(30);
// For the last messages of answers that are complete, in a drain.
constexpr absl::Duration kLastMessages = absl::Seconds(1);

}  // namespace

absl::StatusOr<std::unique_ptr<BackboneWorker>> BackboneWorker::Create(
    const BackboneWorkerOptions& options, const RoleEnvironment& environment) {
  CCOE_CHECK(environment.compute != nullptr && environment.channels != nullptr &&
             environment.metrics != nullptr);
  std::unique_ptr<BackboneWorker> worker(new BackboneWorker(options, environment));
  CCOE_RETURN_IF_ERROR(worker->LoadModel());
  CCOE_RETURN_IF_ERROR(worker->Serve());
  CCOE_RETURN_IF_ERROR(worker->server_->Register());
  return worker;
}

BackboneWorker::~BackboneWorker() { Drain(absl::ZeroDuration()); }

absl::Status BackboneWorker::LoadModel() {
  environment_.Progress(absl::StrCat(options_.worker_id, ": model ", options_.model_folder));
  CCOE_ASSIGN_OR_RETURN(const model::ModelSpec spec, model::LoadModelSpec(options_.model_folder));
  int32_t layers = 0;  // all
  if (options_.without_base_top) {
    CCOE_ASSIGN_OR_RETURN(layers, LayersBelowExperts(spec, options_.bundle_folders));
  }
  ExpertTableOptions table;
  table.ffn_experts = model::FfnShard::All(spec);
  CCOE_ASSIGN_OR_RETURN(table.ffn_here, FfnExpertsHere(spec));
  const Compute& compute = *environment_.compute;
  engine::EngineOptions engine = options_.engine;
  engine.kv_dtype = compute.kv_dtype();
  const kernels::OpShapes shapes = engine::ModelRunner::ShapesOf(spec, engine);
  CCOE_RETURN_IF_ERROR(PlanMemory(layers, table.ffn_here, engine, shapes));
  CCOE_ASSIGN_OR_RETURN(carriers_, MakeRowCarriers(options_.transport, compute));
  if (environment_.local_peers != nullptr) {
    CCOE_ASSIGN_OR_RETURN(local_rows_, MakeLocalRowMemory(carriers_.get(), compute));
  }
  CCOE_ASSIGN_OR_RETURN(
      loaded_, LoadBackbone(options_.model_folder, layers, table.ffn_here, compute.weights()));
  identity_.worker_id = options_.worker_id;
  identity_.role = v1::WORKER_ROLE_BACKBONE;
  identity_.model_fingerprint = ModelIdentity(spec);
  CCOE_ASSIGN_OR_RETURN(identity_.weights, IdentifyWeights(options_.model_folder, environment_));
  fingerprints_.emplace(&loaded_.model.spec, loaded_.weights.get());
  table.links.open = [this](const std::string& address) { return OpenLink(address); };
  table.base_fingerprint = [this](int32_t first) { return fingerprints_->Below(first); };
  table.layer_count = spec.layer_count();
  CCOE_ASSIGN_OR_RETURN(table.own_heads, LoadExpertHeads(loaded_, options_.bundle_folders));
  metrics_ = std::make_unique<EngineMetrics>(&environment_.metrics->backbone(options_.worker_id));
  engine.observer = metrics_.get();
  if (spec.has_moe()) moe_statistics_ = std::make_unique<engine::MoeStatistics>(spec);
  engine.moe_statistics = moe_statistics_.get();
  CCOE_ASSIGN_OR_RETURN(auto ops, compute.MakeOps(shapes));
  identity_.numerics = kernels::NumericsClassOf(*ops, engine.kv_dtype);
  table.numerics = identity_.numerics;
  experts_ = std::make_unique<ExpertTable>(std::move(table));
  CCOE_ASSIGN_OR_RETURN(engine_, engine::Engine::Create(loaded_.model, std::move(ops),
                                                        experts_.get(), experts_.get(), engine));
  sampler_ = environment_.metrics->AddSampler([this] {
    metrics_->Sample(engine_->Load());
    if (moe_statistics_ == nullptr) return;
    SampleMoe(*moe_statistics_, environment_.metrics->moe(options_.worker_id));
  });
  return absl::OkStatus();
}

absl::Status BackboneWorker::PlanMemory(int32_t layers, const model::FfnShard& experts,
                                        const engine::EngineOptions& engine,
                                        const kernels::OpShapes& shapes) {
  CCOE_ASSIGN_OR_RETURN(
      model::MemoryPlan plan,
      PlanBackboneMemory(options_.model_folder, layers, experts, options_.bundle_folders, engine,
                         environment_.compute->weights()));
  CCOE_ASSIGN_OR_RETURN(const int64_t ops_bytes, environment_.compute->OpsBytes(shapes));
  if (ops_bytes > 0) plan.Add("ops", ops_bytes);
  const int64_t rows = RowMemoryBytes(options_.transport, environment_.local_peers != nullptr,
                                      *environment_.compute);
  if (rows > 0) plan.Add("rows on their way", rows);
  planned_bytes_ = plan.total_bytes();
  return Annotate(plan.CheckFits(environment_.compute->device()), options_.worker_id);
}

absl::StatusOr<model::FfnShard> BackboneWorker::FfnExpertsHere(const model::ModelSpec& spec) const {
  model::FfnShard all = model::FfnShard::All(spec);
  if (all.empty()) return all;
  CCOE_ASSIGN_OR_RETURN(auto channel, environment_.channels->Connect(options_.router));
  CallPolicy patient;  // the router may start at the same time
  patient.deadline = options_.serve.register_timeout;
  patient.max_attempts = std::numeric_limits<int>::max();
  const auto proto = MakeControlStub(std::move(channel), patient)->GetPlacement({});
  if (absl::IsNotFound(proto.status())) return all;
  if (!proto.ok()) {
    return Annotate(proto.status(), absl::StrCat(options_.worker_id,
                                                 ": the placement of FFN "
                                                 "experts, from the router at ",
                                                 options_.router));
  }
  CCOE_ASSIGN_OR_RETURN(placement::Plan plan, placement::PlanFromProto(*proto));
  CCOE_RETURN_IF_ERROR_IN(plan.with_backbone.CheckWithin(spec), "placement: with_backbone");
  return std::move(plan.with_backbone);
}

absl::StatusOr<std::unique_ptr<exchange::ActivationLink>> BackboneWorker::OpenLink(
    const std::string& address) {
  if (environment_.local_peers != nullptr) {
    if (exchange::SwapHandler* handler = environment_.local_peers->Find(address)) {
      exchange::LinkOptions options;
      options.memory = local_rows_;
      return exchange::MakeLocalLink(handler, options);
    }
  }
  CCOE_ASSIGN_OR_RETURN(auto channel, environment_.channels->Connect(address));
  exchange::GrpcLinkOptions options;
  options.name = absl::StrCat("grpc://", address);
  options.identity = ToLinkIdentity(identity_, loaded_.model.spec.hidden_size);
  options.wire_dtype = options_.engine.wire_dtype;
  options.open_timeout = kOpenLinkTimeout;
  if (carriers_ == nullptr) return exchange::OpenGrpcLink(std::move(channel), options);
  exchange::GrpcLinkOptions beside = options;
  beside.carriers = carriers_.get();
  beside.require_carrier = options_.transport == RowTransport::kNccl;
  beside.open_timeout = kOpenCarrierTimeout;
  auto link = exchange::OpenGrpcLink(channel, beside);
  if (link.ok() || beside.require_carrier || absl::IsUnavailable(link.status())) return link;
  LOG(WARNING) << "rows to " << address << " travel in messages: " << link.status().message();
  return exchange::OpenGrpcLink(std::move(channel), options);
}

absl::Status BackboneWorker::Serve() {
  queries_ = std::make_unique<LocalQueryEngine>(engine_.get());
  service_ = std::make_unique<BackboneService>(queries_.get(), moe_statistics_.get());
  WorkerServerOptions server;
  server.identity = identity_;
  server.router = options_.router;
  server.serve = options_.serve;
  server.services = {{service_.get(), std::string(v1::Backbone::service_full_name())}};
  server.fill_report = [this](v1::WorkerReport& report) { FillReport(report); };
  server.health = [this] { return engine_->Health(); };
  server.on_directive = [this](const v1::Directive& directive) { experts_->Update(directive); };
  CCOE_ASSIGN_OR_RETURN(server_, WorkerServer::Start(std::move(server), environment_));
  return absl::OkStatus();
}

void BackboneWorker::FillReport(v1::WorkerReport& report) const {
  const engine::EngineLoad load = engine_->Load();
  v1::WorkerLoad* proto = report.mutable_load();
  proto->set_waiting(load.waiting);
  proto->set_running(load.running);
  proto->set_kv_tokens_used(load.kv_tokens_used);
  proto->set_kv_tokens_total(load.kv_tokens_total);
  ReportDevice(environment_.compute->device(), planned_bytes_, proto);
}

void BackboneWorker::Drain(absl::Duration grace) {
  if (server_ == nullptr) return;
  server_->Drain(
      absl::Now() + grace, [this](absl::Time deadline) { return engine_->Drain(deadline); },
      kLastMessages);
}

}  // namespace ccoe::services
