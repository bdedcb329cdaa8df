#include "services/expert/worker.h"

#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/hf_config.h"
#include "runtime/telemetry/resident_bytes.h"
#include "services/common/compute.h"
#include "services/common/device_report.h"
#include "services/common/ffn_shards.h"
#include "services/common/model_identity.h"
#include "services/expert/local_peers.h"
#include "services/expert/memory.h"
#include "services/expert/runner_metrics.h"

namespace ccoe::services {
namespace {

int64_t WeightBytes(const experts::ExpertRunner& runner, const ExpertRef& expert) {
  for (const experts::ExpertLoad& load : runner.Load()) {
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

absl::StatusOr<std::unique_ptr<ExpertWorker>> ExpertWorker::Create(
    const ExpertWorkerOptions& options, const RoleEnvironment& environment) {
  CCOE_CHECK(environment.compute != nullptr && environment.channels != nullptr &&
             environment.metrics != nullptr);
  std::unique_ptr<ExpertWorker> worker(new ExpertWorker(options, environment));
  CCOE_RETURN_IF_ERROR(worker->LoadExperts());
  CCOE_RETURN_IF_ERROR(worker->Serve());
  CCOE_RETURN_IF_ERROR(worker->Register());
  return worker;
}

ExpertWorker::~ExpertWorker() { Drain(absl::ZeroDuration()); }

absl::Status ExpertWorker::LoadExperts() {
  CCOE_ASSIGN_OR_RETURN(const model::ModelSpec spec, model::LoadModelSpec(options_.base_folder));
  model_identity_ = ModelIdentity(spec);
  if (options_.bundle_folders.empty() && !spec.has_moe()) {
    return absl::InvalidArgumentError(
        absl::StrCat(options_.worker_id, ": expected at least one expert bundle, found none, and ",
                     options_.base_folder, " is a model without FFN experts"));
  }
  const Compute& compute = *environment_.compute;
  // Links within the process use the backbone's.
  if (const int64_t bytes = RowMemoryBytes(options_.transport, /*local=*/false, compute)) {
    model::MemoryPlan rows;
    rows.Add("rows on their way", bytes);
    CCOE_RETURN_IF_ERROR(Fit(rows));
  }
  CCOE_ASSIGN_OR_RETURN(carriers_, MakeRowCarriers(options_.transport, compute));
  if (!options_.bundle_folders.empty()) CCOE_RETURN_IF_ERROR(LoadBundles(spec));
  if (spec.has_moe()) {
    CCOE_ASSIGN_OR_RETURN(
        model::MemoryPlan plan,
        PlanFfnPass(spec, options_.ffn_runner.max_batch_rows, environment_.compute->weights()));
    CCOE_ASSIGN_OR_RETURN(auto ops,
                          MakeOps(experts::ShapesOf(spec, options_.ffn_runner), std::move(plan)));
    CCOE_ASSIGN_OR_RETURN(ffn_runner_,
                          experts::FfnRunner::Create(spec, std::move(ops), options_.ffn_runner));
    absl::MutexLock lock(&mutex_);
    assigned_ = absl::UnavailableError("the router has not said yet which FFN experts to hold");
  }
  CCOE_ASSIGN_OR_RETURN(handler_, experts::SwapRouter::Create(runner_.get(), ffn_runner_.get()));
  return absl::OkStatus();
}

absl::Status ExpertWorker::LoadBundles(const model::ModelSpec& spec) {
  const Compute& compute = *environment_.compute;
  experts::ExpertRunnerOptions runner = options_.runner;
  runner.kv_dtype = compute.kv_dtype();
  CCOE_ASSIGN_OR_RETURN(model::MemoryPlan pass,
                        PlanExpertPass(spec, runner.max_batch_rows, compute.weights()));
  CCOE_ASSIGN_OR_RETURN(auto ops, MakeOps(experts::ShapesOf(spec, runner), std::move(pass)));
  CCOE_ASSIGN_OR_RETURN(runner_, experts::ExpertRunner::Create(spec, std::move(ops), runner));
  const auto add = [&](const experts::Bundle& opened) -> absl::Status {
    experts::Bundle bundle = opened;
    CCOE_ASSIGN_OR_RETURN(const model::MemoryPlan plan,
                          PlanLayerExpertMemory(spec, bundle, runner, compute.weights()));
    CCOE_RETURN_IF_ERROR(Fit(plan));
    bundle.weights = model::Weights::On(bundle.weights, compute.weights());
    environment_.Progress(
        absl::StrCat(options_.worker_id, ": expert ", bundle.manifest.expert.ToString()));
    CCOE_RETURN_IF_ERROR(runner_->AddExpert(bundle));
    held_.push_back(HeldExpertOf(bundle.manifest, WeightBytes(*runner_, bundle.manifest.expert)));
    return absl::OkStatus();
  };
  CCOE_RETURN_IF_ERROR(OpenBundles(spec, options_.base_folder, options_.bundle_folders, add));
  sampler_ = environment_.metrics->AddSampler(
      [runner = runner_.get(), &metrics = environment_.metrics->expert(options_.worker_id)] {
        SampleRunner(runner->Load(), metrics);
      });
  return absl::OkStatus();
}

void ExpertWorker::TakeDirective(const v1::Directive& directive) {
  if (ffn_runner_ == nullptr) return;
  absl::Status status;
  if (directive.has_ffn_assignment()) {
    status = Annotate(AddAssigned(directive.ffn_assignment()),
                      absl::StrCat(options_.worker_id, ": the FFN experts assigned to it"));
    if (!status.ok()) LOG(ERROR) << status.message();
  } else if (runner_ == nullptr) {
    LOG_EVERY_N(WARNING, 100) << options_.worker_id
                              << " holds nothing: the router's placement does not name it";
  }
  absl::MutexLock lock(&mutex_);
  assigned_ = status;
}

absl::Status ExpertWorker::AddAssigned(const v1::FfnShard& assignment) {
  CCOE_ASSIGN_OR_RETURN(const model::FfnShard shard, FfnShardFromProto(assignment));
  const model::FfnShard held = ffn_runner_->Load().shard;
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
  return ffn_runner_->AddShard(shard, ffn_weights_);
}

absl::StatusOr<std::unique_ptr<kernels::Ops>> ExpertWorker::MakeOps(const kernels::OpShapes& shapes,
                                                                    model::MemoryPlan plan) {
  CCOE_ASSIGN_OR_RETURN(const int64_t ops_bytes, environment_.compute->OpsBytes(shapes));
  if (ops_bytes > 0) plan.Add("ops", ops_bytes);
  CCOE_RETURN_IF_ERROR(Fit(plan));
  return environment_.compute->MakeOps(shapes);
}

absl::Status ExpertWorker::Fit(const model::MemoryPlan& plan) {
  CCOE_RETURN_IF_ERROR(plan.CheckFits(environment_.compute->device()));
  absl::MutexLock lock(&mutex_);
  planned_bytes_ += plan.total_bytes();
  return absl::OkStatus();
}

absl::Status ExpertWorker::status() const {
  CCOE_RETURN_IF_ERROR(registration_->status());
  absl::MutexLock lock(&mutex_);
  return assigned_;
}

std::vector<experts::ExpertLoad> ExpertWorker::Load() const {
  return runner_ == nullptr ? std::vector<experts::ExpertLoad>() : runner_->Load();
}

experts::FfnLoad ExpertWorker::LoadOfFfn() const {
  return ffn_runner_ == nullptr ? experts::FfnLoad() : ffn_runner_->Load();
}

absl::Status ExpertWorker::Serve() {
  ExchangeServiceOptions service;
  service.worker_id = options_.worker_id;
  service.epoch = static_cast<uint64_t>(absl::ToUnixMicros(absl::Now()));
  service.model_fingerprint = model_identity_;
  service.carriers = carriers_.get();
  service_ = std::make_unique<ExchangeService>(handler_.get(), service);
  ServerOptions server;
  server.listen = options_.serve.listen;
  server.services = {{service_.get(), std::string(v1::Exchange::service_full_name())}};
  server.in_process_name = options_.serve.in_process_name;
  server.registry = environment_.in_process;
  server.on_drain = [this] { service_->CloseLinks(); };
  CCOE_ASSIGN_OR_RETURN(server_, ServerRunner::Start(std::move(server)));
  address_ = AdvertisedAddress(options_.serve, server_->addresses());
  if (environment_.local_peers != nullptr) environment_.local_peers->Add(address_, handler_.get());
  return absl::OkStatus();
}

absl::Status ExpertWorker::Register() {
  RegistrationOptions registration;
  registration.connect = [this] { return environment_.channels->Connect(options_.router); };
  registration.report = [this] { return Report(); };
  registration.on_directive = [this](const v1::Directive& directive) { TakeDirective(directive); };
  registration.report_after_directive = ffn_runner_ != nullptr;
  registration_ = std::make_unique<Registration>(std::move(registration));
  CCOE_RETURN_IF_ERROR(Annotate(
      registration_->WaitRegistered(options_.serve.register_timeout),
      absl::StrCat(options_.worker_id, ": registering with the router at ", options_.router)));
  {
    absl::MutexLock lock(&mutex_);
    CCOE_RETURN_IF_ERROR(assigned_);
  }
  server_->SetReady(true);
  return absl::OkStatus();
}

v1::WorkerReport ExpertWorker::Report() const {
  v1::WorkerReport report;
  report.set_worker_id(options_.worker_id);
  report.set_role(v1::WORKER_ROLE_EXPERT);
  report.set_address(address_);
  report.set_model_fingerprint(model_identity_);
  {
    absl::MutexLock lock(&mutex_);
    report.set_ready(!draining_.load() && assigned_.ok());
    ReportDevice(environment_.compute->device(), planned_bytes_, report.mutable_load());
  }
  for (const v1::HeldExpert& held : held_) *report.add_experts() = held;
  v1::WorkerLoad* load = report.mutable_load();
  for (const experts::ExpertLoad& expert : Load()) {
    load->set_waiting(load->waiting() + expert.waiting_rows);
    load->set_kv_tokens_used(load->kv_tokens_used() + expert.kv_tokens_used);
    load->set_kv_tokens_total(load->kv_tokens_total() + expert.kv_tokens_total);
  }
  const experts::FfnLoad ffn = LoadOfFfn();
  *report.mutable_ffn_shard() = FfnShardToProto(ffn.shard);
  report.set_ffn_bytes(ffn.weight_bytes);
  load->set_waiting(load->waiting() + ffn.waiting_rows);
  load->set_resident_bytes(telemetry::ResidentBytes());
  return report;
}

void ExpertWorker::Drain(absl::Duration grace) {
  if (server_ == nullptr) return;
  const absl::Time deadline = absl::Now() + grace;
  const bool first = !draining_.exchange(true);
  if (first && environment_.local_peers != nullptr) environment_.local_peers->Remove(address_);
  if (first && registration_ != nullptr) registration_->ReportNow();
  // Backbone workers hold a query's link until its end, so links that are still open may still be
  // wanted.
  while (service_->links() > 0 && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(20));
  registration_.reset();
  server_->Drain(absl::ZeroDuration());
}

}  // namespace ccoe::services
