#include "services/router/router.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "runtime/base/status_macros.h"

namespace ccoe::services {
namespace {

constexpr absl::Duration kShortestLease = absl::Milliseconds(100);
constexpr absl::Duration kLongestLease = absl::Minutes(10);

WorkerRegistryOptions RegistryOptions(const RouterOptions& options) {
  WorkerRegistryOptions registry;
  registry.lease = options.lease;
  return registry;
}

absl::StatusOr<std::unique_ptr<const routing::Rules>> LoadRules(const std::string& file) {
  if (file.empty()) return routing::Rules::None();
  CCOE_ASSIGN_OR_RETURN(auto rules, routing::Rules::Load(file));
  LOG(INFO) << "router: " << rules->size() << " rules from " << file;
  return rules;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Router>> Router::Create(const RouterOptions& options,
                                                       const RoleEnvironment& environment,
                                                       const Clock* clock) {
  if (options.lease < kShortestLease || options.lease > kLongestLease) {
    return absl::InvalidArgumentError(absl::StrCat(
        "lease: expected ", absl::FormatDuration(kShortestLease), " to ",
        absl::FormatDuration(kLongestLease), ", found ", absl::FormatDuration(options.lease)));
  }
  CCOE_ASSIGN_OR_RETURN(auto rules, LoadRules(options.rules_file));
  std::unique_ptr<Router> router(new Router(options, environment, clock, std::move(rules)));
  ServerOptions server;
  server.listen = options.serve.listen;
  server.services = {{&router->routing_, v1::Routing::service_full_name()},
                     {&router->control_, v1::Control::service_full_name()}};
  server.in_process_name = options.serve.in_process_name;
  server.registry = environment.in_process;
  server.on_drain = [control = &router->control_] { control->EndStreams(); };
  CCOE_ASSIGN_OR_RETURN(router->server_, ServerRunner::Start(std::move(server)));
  router->address_ = AdvertisedAddress(options.serve, router->server_->addresses());
  // Workers and decisions are welcome from the start, whether or not a worker is there.
  router->server_->SetReady(true);
  return router;
}

Router::Router(const RouterOptions& options, const RoleEnvironment& environment, const Clock* clock,
               std::unique_ptr<const routing::Rules> rules)
    : cluster_(clock != nullptr ? clock : &system_clock_, RegistryOptions(options),
               &environment.metrics->router()),
      routing_(&cluster_, std::move(rules), &environment.metrics->router()),
      control_(&cluster_) {}

absl::Status Router::status() const { return cluster_.Health(); }

}  // namespace ccoe::services
