// What every worker has around what it computes: a server, a registration with the router, reports,
// a drain.
#ifndef CCOE_SERVICES_COMMON_WORKER_SERVER_H_
#define CCOE_SERVICES_COMMON_WORKER_SERVER_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ccoe/v1/control.pb.h"
#include "runtime/exchange/grpc/handshake.h"
#include "services/common/registration.h"
#include "services/common/role_environment.h"
#include "services/common/server_runner.h"

namespace ccoe::services {

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
