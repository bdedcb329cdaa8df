// A router: the cluster's table, the rules and their two services behind one server.
#ifndef CCOE_SERVICES_ROUTER_ROUTER_SERVER_H_
#define CCOE_SERVICES_ROUTER_ROUTER_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/base/clock.h"
#include "services/common/role_environment.h"
#include "services/common/server_runner.h"
#include "services/router/cluster.h"
#include "services/router/control_service.h"
#include "services/router/routing_service.h"

namespace ccoe::services {

struct RouterOptions {
  std::string rules_file;  // empty: no rules, queries without a choice go to the base
  WorkerRegistryOptions registry;
  ServeOptions serve;
};

// Thread-safe. Destruction ends all calls.
class RouterServer {
 public:
  // INVALID_ARGUMENT lists the mistakes of the rules file; other errors name the file or address. `environment.team` is not needed.
  static absl::StatusOr<std::unique_ptr<RouterServer>> Create(const RouterOptions& options,
                                                              const RoleEnvironment& environment);

  // Ends the workers' streams and refuses new calls; they keep their last directive.
  void Drain(absl::Duration grace) { server_->Drain(grace); }

  // What others dial.
  const std::string& address() const { return address_; }

 private:
  RouterServer() = default;

  const SystemClock clock_;
  std::string address_;
  // In the order in which they need each other.
  std::unique_ptr<Cluster> cluster_;
  std::unique_ptr<ControlService> control_;
  std::unique_ptr<RoutingService> routing_;
  std::unique_ptr<ServerRunner> server_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_ROUTER_ROUTER_SERVER_H_
