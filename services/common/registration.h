// A worker's side of Control.Register: keeps the router informed and hears its directives.
#ifndef CCOE_SERVICES_COMMON_REGISTRATION_H_
#define CCOE_SERVICES_COMMON_REGISTRATION_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <optional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ccoe/v1/control.grpc.pb.h"
#include "services/common/backoff.h"

namespace ccoe::services {

struct RegistrationOptions {
  // A channel to the router; called before every attempt to connect, so that an "inproc:" router
  // that was restarted is found again. Required.
  std::function<absl::StatusOr<std::shared_ptr<grpc::Channel>>()> connect;
  // The worker's report as of now; protocol_version is filled in by Registration. Called from its
  // thread. Required.
  std::function<v1::WorkerReport()> report;
  // A new directive, in the router's order, one at a time. Called from a thread of Registration;
  // must not destroy it. While the router is away nothing is called: what the last directive said
  // stays in force. Unset: ignored.
  std::function<void(const v1::Directive&)> on_directive;
  // A directive may change what the worker has to say: a report follows it at once.
  bool report_after_directive = false;
  // Between attempts to reach the router.
  absl::Duration first_backoff = absl::Milliseconds(100);
  absl::Duration max_backoff = absl::Seconds(3);
  // Between reports until the first directive says how long the lease is; then a third of the
  // lease.
  absl::Duration report_interval = absl::Seconds(1);
};

// Thread-safe. Destruction ends the stream (the router forgets the worker) and joins the threads.
class Registration {
 public:
  explicit Registration(RegistrationOptions options);
  ~Registration();
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;

  // Sends a report without waiting for its turn: after a change of readiness or of what is held.
  void ReportNow() ABSL_LOCKS_EXCLUDED(mutex_);

  // Waits for the first directive. FAILED_PRECONDITION at once where the router refused this worker
  // (it says why; the worker keeps trying); DEADLINE_EXCEEDED, with the last error, after
  // `timeout`.
  absl::Status WaitRegistered(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mutex_);

  // OK while the router hears us (the stream is open and has brought a directive); else why not.
  absl::Status status() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Stream = grpc::ClientReaderWriterInterface<v1::WorkerReport, v1::Directive>;

  void Run();
  // One stream from opening to end; why it ended.
  absl::Status RunStream();
  void ReadDirectives(Stream* stream);
  // Reports until the stream breaks or Registration stops.
  void SendReports(Stream* stream);
  void Publish(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_);

  const RegistrationOptions options_;
  Backoff backoff_;  // of the thread alone
  mutable absl::Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_) = absl::UnavailableError("not connected yet");
  bool registered_once_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool report_now_ ABSL_GUARDED_BY(mutex_) = false;
  bool stream_over_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Duration interval_ ABSL_GUARDED_BY(mutex_);
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mutex_) = nullptr;  // of the open stream
  std::thread thread_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_REGISTRATION_H_
