#include "services/common/registration.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "services/common/protocol_version.h"
#include "services/common/status_to_grpc.h"

namespace ccoe::services {
namespace {

constexpr absl::Duration kShortestInterval = absl::Milliseconds(10);
constexpr absl::Duration kLongestInterval = absl::Minutes(1);

absl::Duration IntervalFor(double lease_seconds, absl::Duration fallback) {
  if (!std::isfinite(lease_seconds) || lease_seconds <= 0) return fallback;
  return std::clamp(absl::Seconds(lease_seconds / 3), kShortestInterval, kLongestInterval);
}

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
  // One line when the state changes, not one an attempt.
  if (status.code() != status_.code()) LOG(WARNING) << "registration: " << status.message();
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

}  // namespace ccoe::services
