// SPDX-License-Identifier: Apache-2.0
#include "services/router/control_service.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "glog/logging.h"
#include "runtime/telemetry/log.h"
#include "services/common/status_to_grpc.h"

namespace ccoe::services {

using ::ccoe::telemetry::Field;

// One worker's stream. gRPC calls the On... methods; Send and End come from the service, under its
// lock. Deletes itself in OnDone, which waits for that lock.
class ControlService::Stream final
    : public grpc::ServerBidiReactor<v1::WorkerReport, v1::Directive> {
 public:
  explicit Stream(ControlService* service) : service_(*service) { StartRead(&report_); }

  // Sends the directive as of now, once, however often it is called while another write runs.
  void Send() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    SendLocked();
  }

  // Ends the stream, after the write that runs.
  void End(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    EndLocked(status);
  }

  bool Has(WorkerSession session) const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return session_ == session;
  }
  // Of a stream that has a session.
  const std::string& worker_id() const { return worker_id_; }

  void OnReadDone(bool ok) override {
    if (!ok) return End(absl::OkStatus());
    const absl::Status status = Hear();
    if (!status.ok()) return End(status);
    service_.SendChanges();
    absl::MutexLock lock(&mutex_);
    if (!told_) SendLocked();  // its first directive, where its registration changed nothing
    if (!ended_) StartRead(&report_);
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) EndLocked(absl::UnavailableError("the worker has gone"));
    if (ending_.has_value()) return FinishLocked();
    WriteIfIdle();
  }

  void OnCancel() override { End(absl::CancelledError("the worker has gone")); }

  void OnDone() override {
    if (session_.has_value()) {
      service_.cluster_.Remove(*session_);
      // The last report of one that drains says that it is not ready.
      if (report_.ready()) {
        LOG(WARNING) << "worker is gone, without having drained" << Field("worker", worker_id_);
      } else {
        LOG(INFO) << "worker left" << Field("worker", worker_id_);
      }
    }
    service_.Forget(this);
    delete this;
  }

 private:
  // Takes the report that was read.
  absl::Status Hear() {
    if (session_.has_value()) return service_.cluster_.Report(*session_, report_);
    const auto session = service_.cluster_.Register(report_);
    if (!session.ok()) {
      LOG(WARNING) << "worker refused: " << session.status().message();
      return session.status();
    }
    worker_id_ = report_.worker_id();
    role_ = report_.role();
    LOG(INFO) << "worker registered" << Field("worker", worker_id_)
              << Field("address", report_.address());
    absl::MutexLock lock(&mutex_);
    session_ = *session;
    return absl::OkStatus();
  }

  void SendLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!session_.has_value()) return;
    told_ = true;
    unsent_ = true;
    WriteIfIdle();
  }

  void WriteIfIdle() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || !unsent_ || ended_ || ending_.has_value()) return;
    unsent_ = false;
    writing_ = true;
    directive_ = service_.cluster_.CurrentDirective(worker_id_, role_);
    StartWrite(&directive_);
  }

  void EndLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (ended_ || ending_.has_value()) return;
    ending_ = status;
    if (!writing_) FinishLocked();
  }

  void FinishLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (ended_) return;
    ended_ = true;
    Finish(ToGrpc(*ending_));
  }

  ControlService& service_;
  v1::WorkerReport report_;  // of the read that runs
  // Written once, before session_ is set, which tells the others that they may read.
  std::string worker_id_;
  v1::WorkerRole role_ = v1::WORKER_ROLE_UNSPECIFIED;
  mutable absl::Mutex mutex_;
  // Written once, by a read and under the lock; reads of the stream and OnDone need no lock to see
  // it.
  std::optional<WorkerSession> session_;
  v1::Directive directive_ ABSL_GUARDED_BY(mutex_);  // of the write that runs
  bool told_ ABSL_GUARDED_BY(mutex_) = false;        // a directive was sent, or will be
  bool unsent_ ABSL_GUARDED_BY(mutex_) = false;  // the worker does not have the newest directive
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> ending_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;  // Finish was called
};

ControlService::ControlService(ClusterState* cluster)
    : cluster_(*cluster), expirer_([this] { ExpireUntilStopped(); }) {}

ControlService::~ControlService() {
  EndStreams();
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    const auto none_left = [this]()
                               ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return streams_.empty(); };
    mutex_.Await(absl::Condition(&none_left));
  }
  expirer_.join();
}

grpc::ServerBidiReactor<v1::WorkerReport, v1::Directive>* ControlService::Register(
    grpc::CallbackServerContext*) {
  auto* stream = new Stream(this);  // deletes itself
  absl::MutexLock lock(&mutex_);
  streams_.insert(stream);
  if (draining_) stream->End(absl::UnavailableError("the router is shutting down"));
  return stream;
}

grpc::ServerUnaryReactor* ControlService::GetStatus(grpc::CallbackServerContext* context,
                                                    const v1::GetStatusRequest*,
                                                    v1::ClusterStatus* response) {
  *response = cluster_.Status();
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* ControlService::GetPlacement(grpc::CallbackServerContext* context,
                                                       const v1::GetPlacementRequest*,
                                                       v1::PlacementPlan* response) {
  absl::StatusOr<v1::PlacementPlan> plan = cluster_.Plan();
  if (plan.ok()) *response = *std::move(plan);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(plan.status()));
  return reactor;
}

void ControlService::ExpireNow() {
  const std::vector<WorkerSession> expired = cluster_.Expire();
  absl::MutexLock lock(&mutex_);
  for (Stream* stream : streams_) {
    if (std::none_of(expired.begin(), expired.end(),
                     [&](WorkerSession session) { return stream->Has(session); })) {
      continue;
    }
    LOG(WARNING) << "worker's lease ran out" << Field("worker", stream->worker_id());
    stream->End(absl::AbortedError("no report came within the lease"));
  }
  SendChangesLocked();
}

void ControlService::EndStreams() {
  absl::MutexLock lock(&mutex_);
  draining_ = true;
  for (Stream* stream : streams_) {
    stream->End(absl::UnavailableError("the router is shutting down"));
  }
}

void ControlService::SendChanges() {
  absl::MutexLock lock(&mutex_);
  SendChangesLocked();
}

void ControlService::SendChangesLocked() {
  const int64_t epoch = cluster_.epoch();
  if (std::exchange(sent_epoch_, epoch) == epoch) return;
  for (Stream* stream : streams_) stream->Send();
}

void ControlService::Forget(Stream* stream) {
  absl::MutexLock lock(&mutex_);
  streams_.erase(stream);
  SendChangesLocked();
}

void ControlService::ExpireUntilStopped() {
  const absl::Duration pause =
      std::clamp(cluster_.lease() / 4, absl::Milliseconds(10), absl::Seconds(1));
  const auto stopping = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_; };
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(absl::Condition(&stopping), pause)) return;
    }
    ExpireNow();
  }
}

}  // namespace ccoe::services
