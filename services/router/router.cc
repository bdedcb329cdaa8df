#include "services/router/router.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/families/hf_config.h"
#include "runtime/placement/expert_demand.h"
#include "runtime/placement/plan.h"
#include "services/common/model_identity.h"

namespace ccoe::services {
namespace {

constexpr absl::Duration kShortestLease = absl::Milliseconds(100);
constexpr absl::Duration kLongestLease = absl::Minutes(10);

WorkerRegistryOptions RegistryOptions(const RouterOptions& options,
                                      const std::optional<placement::Plan>& plan) {
  WorkerRegistryOptions registry;
  registry.lease = options.lease;
  // A plan for one model is none for another.
  if (plan.has_value()) registry.model_fingerprint = plan->model_fingerprint;
  return registry;
}

absl::StatusOr<std::unique_ptr<const routing::Rules>> LoadRules(const std::string& file) {
  if (file.empty()) return routing::Rules::None();
  CCOE_ASSIGN_OR_RETURN(auto rules, routing::Rules::Load(file));
  LOG(INFO) << "router: " << rules->size() << " rules from " << file;
  return rules;
}

absl::Status CheckAgainstModel(const placement::Plan& plan, const std::string& folder) {
  CCOE_ASSIGN_OR_RETURN(const model::ModelSpec spec, model::LoadModelSpec(folder));
  const std::string identity = ModelIdentity(spec);
  if (!plan.model_fingerprint.empty() && plan.model_fingerprint != identity) {
    return absl::InvalidArgumentError(absl::StrCat("model_fingerprint: expected that of ", folder,
                                                   ", ", identity, ", found ",
                                                   absl::CEscape(plan.model_fingerprint)));
  }
  CCOE_ASSIGN_OR_RETURN(const kernels::DType dtype, placement::ExpertDType(spec, folder));
  return placement::CheckPlan(plan, spec, dtype);
}

absl::StatusOr<std::optional<placement::Plan>> LoadPlacement(const RouterOptions& options) {
  const std::string name = options.placement_file.empty() ? "placement" : options.placement_file;
  std::optional<placement::Plan> plan = options.placement;
  if (!plan.has_value() && options.placement_file.empty()) return plan;
  if (!plan.has_value()) {
    CCOE_ASSIGN_OR_RETURN(plan, placement::ReadPlan(options.placement_file));
  }
  CCOE_RETURN_IF_ERROR(Annotate(placement::CheckWorkers(*plan), name));
  if (!options.model_folder.empty()) {
    CCOE_RETURN_IF_ERROR(Annotate(CheckAgainstModel(*plan, options.model_folder), name));
  }
  LOG(INFO) << "router: " << name << " of FFN experts over " << plan->workers.size() << " workers";
  return plan;
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
  CCOE_ASSIGN_OR_RETURN(auto plan, LoadPlacement(options));
  std::unique_ptr<Router> router(
      new Router(options, environment, clock, std::move(rules), std::move(plan)));
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
               std::unique_ptr<const routing::Rules> rules, std::optional<placement::Plan> plan)
    : cluster_(clock != nullptr ? clock : &system_clock_, RegistryOptions(options, plan),
               &environment.metrics->router(), plan),
      routing_(&cluster_, std::move(rules), &environment.metrics->router()),
      control_(&cluster_) {}

absl::Status Router::status() const { return cluster_.Health(); }

}  // namespace ccoe::services
