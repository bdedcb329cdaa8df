// SPDX-License-Identifier: Apache-2.0
#include "services/common/worker_server.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "kernels/serving_thread.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/telemetry/process_info.h"
#include "services/common/model_report.h"
#include "services/common/status_to_grpc.h"

namespace ccoe::services {
namespace {

constexpr absl::Duration kShortestInterval = absl::Milliseconds(10);
constexpr absl::Duration kLongestInterval = absl::Minutes(1);

absl::Duration IntervalFor(double lease_seconds, absl::Duration fallback) {
  if (!std::isfinite(lease_seconds) || lease_seconds <= 0) return fallback;
  return std::clamp(absl::Seconds(lease_seconds / 3), kShortestInterval, kLongestInterval);
}

constexpr size_t kMaxFailureBytes = 512;

}  // namespace

Registration::Registration(RegistrationOptions options)
    : options_(std::move(options)),
      backoff_(options_.first_backoff, options_.max_backoff),
      interval_(options_.report_interval) {
  CCOE_CHECK(options_.connect != nullptr && options_.report != nullptr);
  thread_ = std::thread([this] { Run(); });
}

Registration::~Registration() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    if (context_ != nullptr) context_->TryCancel();
  }
  thread_.join();
}

void Registration::ReportNow() {
  absl::MutexLock lock(&mutex_);
  report_now_ = true;
}

absl::Status Registration::status() const {
  absl::MutexLock lock(&mutex_);
  return status_;
}

absl::Status Registration::WaitRegistered(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  const auto settled = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return registered_once_ || absl::IsFailedPrecondition(status_);
  };
  mutex_.AwaitWithTimeout(absl::Condition(&settled), timeout);
  if (registered_once_) return absl::OkStatus();
  if (absl::IsFailedPrecondition(status_)) return status_;
  return absl::DeadlineExceededError(absl::StrCat("no directive from the router within ",
                                                  absl::FormatDuration(timeout), ": ",
                                                  status_.message()));
}

void Registration::Publish(absl::Status status) {
  absl::MutexLock lock(&mutex_);
  // One line when the state changes, not one an attempt; none for an end of our own making.
  if (status != status_ && !stopping_) LOG(WARNING) << "registration: " << status.message();
  status_ = std::move(status);
}

void Registration::Run() {
  const auto stopping = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_; };
  while (true) {
    Publish(Annotate(RunStream(), "router"));
    const absl::Duration pause = backoff_.Next();
    absl::MutexLock lock(&mutex_);
    if (mutex_.AwaitWithTimeout(absl::Condition(&stopping), pause)) return;
  }
}

absl::Status Registration::RunStream() {
  CCOE_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, options_.connect());
  const std::unique_ptr<v1::Control::Stub> stub = v1::Control::NewStub(channel);
  grpc::ClientContext context;
  {
    absl::MutexLock lock(&mutex_);
    if (stopping_) return absl::CancelledError("stopping");
    context_ = &context;
    stream_over_ = false;
  }
  const auto stream = stub->Register(&context);
  std::thread reader([this, &stream] { ReadDirectives(stream.get()); });
  SendReports(stream.get());
  // The stream is broken, over, or cancelled by the destructor: the reader comes back.
  reader.join();
  {
    absl::MutexLock lock(&mutex_);
    context_ = nullptr;
  }
  const absl::Status status = FromGrpc(stream->Finish(), context);
  return status.ok() ? absl::UnavailableError("the router ended the stream") : status;
}

void Registration::ReadDirectives(Stream* stream) {
  v1::Directive directive;
  while (stream->Read(&directive)) {
    if (options_.on_directive) options_.on_directive(directive);
    absl::MutexLock lock(&mutex_);
    if (options_.report_after_directive) report_now_ = true;
    if (!status_.ok()) LOG(INFO) << "registered with the router, epoch " << directive.epoch();
    status_ = absl::OkStatus();
    registered_once_ = true;
    interval_ = IntervalFor(directive.lease_seconds(), options_.report_interval);
  }
  absl::MutexLock lock(&mutex_);
  stream_over_ = true;
}

void Registration::SendReports(Stream* stream) {
  const auto wake = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || stream_over_ || report_now_;
  };
  while (true) {
    v1::WorkerReport report = options_.report();
    report.set_protocol_version(kProtocolVersion);
    if (!stream->Write(report)) return;
    absl::MutexLock lock(&mutex_);
    if (status_.ok()) backoff_.Reset();
    mutex_.AwaitWithTimeout(absl::Condition(&wake), interval_);
    if (stopping_ || stream_over_) return;
    report_now_ = false;
  }
}

void ReportDevice(kernels::Device& device, int64_t planned_bytes, v1::WorkerLoad* load) {
  if (planned_bytes == 0) return;
  load->set_device(device.Name());
  load->set_device_planned_bytes(planned_bytes);
  load->set_device_free_bytes(device.FreeBytes());
  const int64_t allocations = kernels::AllocationsWhileServing();
  load->set_device_serving_allocations(allocations);
  if (allocations > 0) {
    LOG_FIRST_N(WARNING, 1) << device.Name() << ": " << allocations
                            << " allocations while serving: expected none, the memory planned at "
                               "the start was too little";
  }
}

exchange::LinkIdentity ToLinkIdentity(const WorkerIdentity& identity, int64_t hidden_size) {
  exchange::LinkIdentity link;
  link.worker_id = identity.worker_id;
  link.model_fingerprint = identity.model_fingerprint;
  link.source_digest = identity.weights.source();
  link.served_digest = identity.weights.served();
  link.numerics = identity.numerics;
  link.hidden_size = hidden_size;
  return link;
}

absl::StatusOr<std::unique_ptr<WorkerServer>> WorkerServer::Start(
    WorkerServerOptions options, const RoleEnvironment& environment) {
  CCOE_CHECK(options.fill_report != nullptr && options.health != nullptr);
  std::unique_ptr<WorkerServer> worker(new WorkerServer(std::move(options)));
  const WorkerServerOptions& own = worker->options_;
  ServerOptions server;
  server.listen = own.serve.listen;
  server.services = own.services;
  server.in_process_name = own.serve.in_process_name;
  server.registry = environment.in_process;
  server.on_drain = own.on_drain;
  CCOE_ASSIGN_OR_RETURN(worker->server_, ServerRunner::Start(std::move(server)));
  worker->address_ = AdvertisedAddress(own.serve, worker->server_->addresses());
  RegistrationOptions registration;
  registration.connect = [channels = environment.channels, router = own.router] {
    return channels->Connect(router);
  };
  registration.report = [raw = worker.get()] { return raw->Report(); };
  registration.on_directive = own.on_directive;
  registration.report_after_directive = own.report_after_directive;
  worker->registration_ = std::make_unique<Registration>(std::move(registration));
  return worker;
}

WorkerServer::~WorkerServer() {
  Drain(
      absl::InfinitePast(), [](absl::Time) { return false; }, absl::ZeroDuration());
}

absl::Status WorkerServer::Register() {
  const std::string& id = options_.identity.worker_id;
  CCOE_RETURN_IF_ERROR(
      Annotate(registration_->WaitRegistered(options_.serve.register_timeout),
               absl::StrCat(id, ": registering with the router at ", options_.router)));
  CCOE_RETURN_IF_ERROR(options_.health());
  server_->SetReady(true);
  return absl::OkStatus();
}

absl::Status WorkerServer::status() const {
  CCOE_RETURN_IF_ERROR(registration_->status());
  return options_.health();
}

void WorkerServer::ReportNow() { registration_->ReportNow(); }

v1::WorkerReport WorkerServer::Report() const {
  const WorkerIdentity& identity = options_.identity;
  v1::WorkerReport report;
  report.set_worker_id(identity.worker_id);
  report.set_role(identity.role);
  report.set_address(address_);
  report.set_model_fingerprint(identity.model_fingerprint);
  *report.mutable_weights() = identity.weights;
  report.set_numerics(identity.numerics);
  const absl::Status health = options_.health();
  report.set_ready(!draining_.load() && health.ok());
  report.set_failure(std::string(health.message().substr(0, kMaxFailureBytes)));
  report.mutable_load()->set_resident_bytes(telemetry::ResidentBytes());
  options_.fill_report(report);
  return report;
}

void WorkerServer::Drain(absl::Time deadline, absl::FunctionRef<bool(absl::Time)> idle,
                         absl::Duration last_calls) {
  if (registration_ == nullptr) return;
  if (!draining_.exchange(true)) registration_->ReportNow();
  const bool nothing_left = idle(deadline);
  server_->Drain(nothing_left ? last_calls : absl::ZeroDuration());
  registration_.reset();
}

}  // namespace ccoe::services
