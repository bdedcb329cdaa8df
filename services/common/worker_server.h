// SPDX-License-Identifier: Apache-2.0
// What every worker has around what it computes: a server, a registration with the router, reports,
// a drain.
#ifndef CCOE_SERVICES_COMMON_WORKER_SERVER_H_
#define CCOE_SERVICES_COMMON_WORKER_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ccoe/v1/control.grpc.pb.h"
#include "ccoe/v1/control.pb.h"
#include "kernels/device.h"
#include "runtime/exchange/grpc/handshake.h"
#include "services/common/role_environment.h"
#include "services/common/server_runner.h"
#include "services/common/stubs.h"

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

// A worker's side of Control.Register: keeps the router informed and hears its directives.
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

// Says what a worker's device is and has left, of one that planned `planned_bytes`; nothing is set
// where that is 0. A plan that turned out too small (kernels/serving_thread.h) is logged once.
void ReportDevice(kernels::Device& device, int64_t planned_bytes, v1::WorkerLoad* load);

// Who a worker is to the router and its peers.
struct WorkerIdentity {
  std::string worker_id;  // unique in the cluster
  v1::WorkerRole role = v1::WORKER_ROLE_UNSPECIFIED;
  std::string model_fingerprint;  // of the base's config
  v1::WeightsIdentity weights;    // of the base's tensors, where they are loaded
  std::string numerics;           // kernels::NumericsClass
};

// The same, as links compare it.
exchange::LinkIdentity ToLinkIdentity(const WorkerIdentity& identity, int64_t hidden_size);

struct WorkerServerOptions {
  WorkerIdentity identity;
  std::string router;  // address
  ServeOptions serve;
  std::vector<NamedService> services;  // outlive the server
  // Adds load and what is held. Called from the registration's thread. Required.
  std::function<void(v1::WorkerReport&)> fill_report;
  // OK while the worker can take queries or rows; else it is reported as not ready, with the
  // reason. Called from any thread. Required.
  std::function<absl::Status()> health;
  // As RegistrationOptions.
  std::function<void(const v1::Directive&)> on_directive;
  bool report_after_directive = false;
  // As ServerOptions.
  std::function<void()> on_drain;
};

// Thread-safe but for Register. Destruction stops serving at once.
class WorkerServer {
 public:
  // Serves, but is not ready yet.
  static absl::StatusOr<std::unique_ptr<WorkerServer>> Start(WorkerServerOptions options,
                                                             const RoleEnvironment& environment);
  ~WorkerServer();

  // Returns once the router knows the worker and `health` is OK: it is ready then. Errors name the
  // router's address.
  absl::Status Register();

  // Tells the router that this worker takes no more, and waits until `idle` says that nothing is
  // left, or returns false at its deadline. Then the calls that still run may end until
  // `last_calls` is over. The registration lives as long as queries may need its directives. May be
  // called again.
  void Drain(absl::Time deadline, absl::FunctionRef<bool(absl::Time)> idle,
             absl::Duration last_calls);

  // What others dial.
  const std::string& address() const { return address_; }
  // OK while the router hears the worker and it can take queries or rows.
  absl::Status status() const;
  // Sends a report without waiting for its turn: after a change of health or of what is held.
  void ReportNow();

 private:
  explicit WorkerServer(WorkerServerOptions options) : options_(std::move(options)) {}
  v1::WorkerReport Report() const;

  const WorkerServerOptions options_;
  std::string address_;
  std::atomic<bool> draining_ = false;
  std::unique_ptr<ServerRunner> server_;
  std::unique_ptr<Registration> registration_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_WORKER_SERVER_H_
