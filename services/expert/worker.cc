// SPDX-License-Identifier: Apache-2.0
#include "services/expert/worker.h"

#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include "kernels/numerics_class.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/families/hf_config.h"
#include "services/common/compute.h"
#include "services/common/model_report.h"
#include "services/common/row_carriers.h"
#include "services/common/worker_server.h"
#include "services/expert/load_experts.h"

namespace ccoe::services {
namespace {

int64_t WeightBytes(const experts::UnitHost& host, const ExpertRef& expert) {
  for (const experts::ExpertLoad& load : host.Load().experts) {
    if (load.expert == expert) return load.weight_bytes;
  }
  return 0;
}

// What of `shard` is not in `held`.
model::FfnShard Missing(const model::FfnShard& shard, const model::FfnShard& held) {
  model::FfnShard missing;
  for (const auto& [layer, experts] : shard.layers()) {
    for (const int32_t expert : experts) {
      if (!held.Contains(layer, expert)) missing.Add(layer, expert);
    }
  }
  return missing;
}

}  // namespace

void SampleHost(const experts::HostLoad& load, telemetry::ExpertMetrics& metrics) {
  experts::ExpertLoad sum;
  sum.weight_bytes = load.ffn.weight_bytes;
  sum.swaps = load.ffn.swaps;
  sum.rows = load.ffn.rows;
  sum.batches = load.ffn.batches;
  for (const experts::ExpertLoad& expert : load.experts) {
    sum.weight_bytes += expert.weight_bytes;
    sum.kv_tokens_used += expert.kv_tokens_used;
    sum.kv_tokens_total += expert.kv_tokens_total;
    sum.swaps += expert.swaps;
    sum.rows += expert.rows;
    sum.batches += expert.batches;
  }
  metrics.held_experts.Set(static_cast<double>(load.experts.size()));
  metrics.weight_bytes.Set(static_cast<double>(sum.weight_bytes));
  metrics.kv_used_tokens.Set(static_cast<double>(sum.kv_tokens_used));
  metrics.kv_total_tokens.Set(static_cast<double>(sum.kv_tokens_total));
  metrics.waiting_rows.Set(static_cast<double>(load.waiting_rows));
  telemetry::RaiseTo(metrics.swaps, static_cast<double>(sum.swaps));
  telemetry::RaiseTo(metrics.rows, static_cast<double>(sum.rows));
  telemetry::RaiseTo(metrics.batches, static_cast<double>(sum.batches));
}

absl::StatusOr<std::unique_ptr<ExpertWorker>> ExpertWorker::Create(
    const ExpertWorkerOptions& options, const RoleEnvironment& environment) {
  CCOE_CHECK(environment.compute != nullptr && environment.channels != nullptr &&
             environment.metrics != nullptr);
  std::unique_ptr<ExpertWorker> worker(new ExpertWorker(options, environment));
  CCOE_RETURN_IF_ERROR(worker->LoadExperts());
  CCOE_RETURN_IF_ERROR(worker->Serve());
  CCOE_RETURN_IF_ERROR(worker->server_->Register());
  return worker;
}

ExpertWorker::~ExpertWorker() { Drain(absl::ZeroDuration()); }

absl::Status ExpertWorker::LoadExperts() {
  CCOE_ASSIGN_OR_RETURN(const model::ModelSpec spec, model::LoadModelSpec(options_.base_folder));
  if (options_.bundle_folders.empty() && !spec.has_moe()) {
    return absl::InvalidArgumentError(
        absl::StrCat(options_.worker_id, ": expected at least one expert bundle, found none, and ",
                     options_.base_folder, " is a model without FFN experts"));
  }
  identity_.worker_id = options_.worker_id;
  identity_.role = v1::WORKER_ROLE_EXPERT;
  identity_.model_fingerprint = ModelIdentity(spec);
  const Compute& compute = *environment_.compute;
  // Links within the process use the backbone's.
  if (const int64_t bytes = RowMemoryBytes(options_.transport, /*local=*/false, compute)) {
    model::MemoryPlan rows;
    rows.Add("rows on their way", bytes);
    CCOE_RETURN_IF_ERROR(Fit(rows));
  }
  CCOE_ASSIGN_OR_RETURN(carriers_, MakeRowCarriers(options_.transport, compute));
  CCOE_RETURN_IF_ERROR(MakeHost(spec));
  if (spec.has_moe()) {
    CCOE_ASSIGN_OR_RETURN(identity_.weights, IdentifyWeights(options_.base_folder, environment_));
    absl::MutexLock lock(&mutex_);
    assigned_ = absl::UnavailableError("the router has not said yet which FFN experts to hold");
  }
  return LoadBundles(spec);
}

absl::Status ExpertWorker::MakeHost(const model::ModelSpec& spec) {
  const Compute& compute = *environment_.compute;
  host_options_ = options_.host;
  host_options_.layer_experts = !options_.bundle_folders.empty();
  host_options_.ffn_experts = spec.has_moe();
  host_options_.kv_dtype = compute.kv_dtype();
  const kernels::OpShapes shapes = experts::ShapesOf(spec, host_options_);
  CCOE_ASSIGN_OR_RETURN(model::MemoryPlan plan, PlanPasses(spec, host_options_, compute.weights()));
  CCOE_ASSIGN_OR_RETURN(const int64_t ops_bytes, compute.OpsBytes(shapes));
  if (ops_bytes > 0) plan.Add("ops", ops_bytes);
  CCOE_RETURN_IF_ERROR(Fit(plan));
  CCOE_ASSIGN_OR_RETURN(auto ops, compute.MakeOps(shapes));
  host_options_.numerics = identity_.numerics =
      kernels::NumericsClassOf(*ops, host_options_.kv_dtype);
  CCOE_ASSIGN_OR_RETURN(host_, experts::UnitHost::Create(spec, std::move(ops), host_options_));
  sampler_ = environment_.metrics->AddSampler(
      [host = host_.get(), &metrics = environment_.metrics->expert(options_.worker_id)] {
        SampleHost(host->Load(), metrics);
      });
  return absl::OkStatus();
}

absl::Status ExpertWorker::LoadBundles(const model::ModelSpec& spec) {
  if (options_.bundle_folders.empty()) return absl::OkStatus();
  const Compute& compute = *environment_.compute;
  const auto add = [&](const experts::Bundle& opened) -> absl::Status {
    experts::Bundle bundle = opened;
    CCOE_ASSIGN_OR_RETURN(const model::MemoryPlan plan,
                          PlanLayerExpertMemory(spec, bundle, host_options_, compute.weights()));
    CCOE_RETURN_IF_ERROR(Fit(plan));
    bundle.weights = model::Weights::On(bundle.weights, compute.weights());
    environment_.Progress(
        absl::StrCat(options_.worker_id, ": expert ", bundle.manifest.expert.ToString()));
    CCOE_RETURN_IF_ERROR(host_->AddExpert(bundle));
    held_.push_back(HeldExpertOf(bundle.manifest, WeightBytes(*host_, bundle.manifest.expert)));
    held_.back().set_kv_tokens(host_options_.kv_tokens);
    return absl::OkStatus();
  };
  return OpenBundles(spec, options_.base_folder, options_.bundle_folders, add);
}

void ExpertWorker::TakeDirective(const v1::Directive& directive) {
  if (!host_options_.ffn_experts) return;
  absl::Status status;
  if (directive.has_ffn_assignment()) {
    status = Annotate(AddAssigned(directive.ffn_assignment()),
                      absl::StrCat(options_.worker_id, ": the FFN experts assigned to it"));
    if (!status.ok()) LOG(ERROR) << status.message();
  } else if (!host_options_.layer_experts) {
    LOG_EVERY_N(WARNING, 100) << options_.worker_id
                              << " holds nothing: the router's placement does not name it";
  }
  absl::MutexLock lock(&mutex_);
  assigned_ = status;
}

absl::Status ExpertWorker::AddAssigned(const v1::FfnShard& assignment) {
  CCOE_ASSIGN_OR_RETURN(const model::FfnShard shard, FfnShardFromProto(assignment));
  const model::FfnShard held = host_->Load().ffn.shard;
  if (held.Contains(shard)) return absl::OkStatus();
  // Maps the files' headers; tensors are paged in as they are used.
  if (ffn_weights_ == nullptr) {
    CCOE_ASSIGN_OR_RETURN(auto mapped, model::Weights::Open(options_.base_folder));
    ffn_weights_ = model::Weights::On(std::move(mapped), environment_.compute->weights());
  }
  CCOE_ASSIGN_OR_RETURN(const model::ModelSpec spec, model::LoadModelSpec(options_.base_folder));
  CCOE_ASSIGN_OR_RETURN(const model::MemoryPlan plan,
                        PlanFfnShardMemory(spec, Missing(shard, held), ffn_weights_,
                                           environment_.compute->weights()));
  CCOE_RETURN_IF_ERROR(Fit(plan));
  return host_->AddShard(shard, ffn_weights_);
}

absl::Status ExpertWorker::Fit(const model::MemoryPlan& plan) {
  CCOE_RETURN_IF_ERROR(plan.CheckFits(environment_.compute->device()));
  absl::MutexLock lock(&mutex_);
  planned_bytes_ += plan.total_bytes();
  return absl::OkStatus();
}

absl::Status ExpertWorker::Serve() {
  exchange::ExchangeServiceOptions service;
  service.link.identity = ToLinkIdentity(identity_, host_->hidden_size());
  service.link.epoch = static_cast<uint64_t>(absl::ToUnixMicros(absl::Now()));
  service.link.carriers = carriers_.get();
  service_ = std::make_unique<exchange::ExchangeService>(host_.get(), service);
  WorkerServerOptions server;
  server.identity = identity_;
  server.router = options_.router;
  server.serve = options_.serve;
  server.services = {{service_.get(), std::string(v1::Exchange::service_full_name())}};
  server.fill_report = [this](v1::WorkerReport& report) { FillReport(report); };
  server.health = [this] { return Health(); };
  server.on_directive = [this](const v1::Directive& directive) { TakeDirective(directive); };
  server.report_after_directive = host_options_.ffn_experts;
  server.on_drain = [this] { service_->CloseLinks(); };
  CCOE_ASSIGN_OR_RETURN(server_, WorkerServer::Start(std::move(server), environment_));
  if (environment_.local_peers != nullptr) environment_.local_peers->Add(address(), host_.get());
  return absl::OkStatus();
}

absl::Status ExpertWorker::Health() const {
  CCOE_RETURN_IF_ERROR(host_->Health());
  absl::MutexLock lock(&mutex_);
  return assigned_;
}

void ExpertWorker::FillReport(v1::WorkerReport& report) const {
  const experts::HostLoad load = host_->Load();
  v1::WorkerLoad* const proto = report.mutable_load();
  {
    absl::MutexLock lock(&mutex_);
    ReportDevice(environment_.compute->device(), planned_bytes_, proto);
  }
  for (const v1::HeldExpert& held : held_) *report.add_experts() = held;
  for (const experts::ExpertLoad& expert : load.experts) {
    proto->set_kv_tokens_used(proto->kv_tokens_used() + expert.kv_tokens_used);
    proto->set_kv_tokens_total(proto->kv_tokens_total() + expert.kv_tokens_total);
  }
  proto->set_waiting(load.waiting_rows);
  *report.mutable_ffn_shard() = FfnShardToProto(load.ffn.shard);
  report.set_ffn_bytes(load.ffn.weight_bytes);
}

void ExpertWorker::Drain(absl::Duration grace) {
  if (server_ == nullptr) return;
  if (environment_.local_peers != nullptr) environment_.local_peers->Remove(address());
  // Backbone workers hold a query's link until its end, so links that are still open may still be
  // wanted.
  const auto unlinked = [this](absl::Time deadline) {
    while (service_->links() > 0 && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(20));
    return service_->links() == 0;
  };
  server_->Drain(absl::Now() + grace, unlinked, absl::ZeroDuration());
}

}  // namespace ccoe::services
