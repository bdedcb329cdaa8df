#include "services/common/worker_server.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/telemetry/process_info.h"

namespace ccoe::services {
namespace {

constexpr size_t kMaxFailureBytes = 512;

}  // namespace

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
