#include "services/router/router_server.h"

#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/routing/rules.h"

namespace ccoe::services {

absl::StatusOr<std::unique_ptr<RouterServer>> RouterServer::Create(
    const RouterOptions& options, const RoleEnvironment& environment) {
  CCOE_CHECK(environment.metrics != nullptr);
  std::unique_ptr<const routing::Rules> rules = routing::Rules::None();
  if (!options.rules_file.empty()) {
    environment.Progress("router: rules " + options.rules_file);
    CCOE_ASSIGN_OR_RETURN(rules, routing::Rules::Load(options.rules_file));
  }
  std::unique_ptr<RouterServer> router(new RouterServer());
  telemetry::RouterMetrics* metrics = &environment.metrics->router();
  router->cluster_ = std::make_unique<Cluster>(&router->clock_, options.registry, metrics);
  router->control_ = std::make_unique<ControlService>(router->cluster_.get());
  router->routing_ =
      std::make_unique<RoutingService>(router->cluster_.get(), std::move(rules), metrics);
  ServerOptions server;
  server.listen = options.serve.listen;
  server.services = {{router->control_.get(), std::string(v1::Control::service_full_name())},
                     {router->routing_.get(), std::string(v1::Routing::service_full_name())}};
  server.in_process_name = options.serve.in_process_name;
  server.registry = environment.in_process;
  server.on_drain = [control = router->control_.get()] { control->EndStreams(); };
  CCOE_ASSIGN_OR_RETURN(router->server_, ServerRunner::Start(std::move(server)));
  router->address_ = AdvertisedAddress(options.serve, router->server_->addresses());
  router->server_->SetReady(true);
  return router;
}

}  // namespace ccoe::services
