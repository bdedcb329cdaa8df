// SPDX-License-Identifier: Apache-2.0
#include "services/router/router.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/families/hf_config.h"
#include "runtime/placement/expert_demand.h"
#include "runtime/placement/plan.h"
#include "services/common/model_report.h"
#include "services/common/status_to_grpc.h"

namespace ccoe::services {
namespace {

constexpr char kBase[] = "base";
// As the protos say of expert names with a version, tenants and request ids.
constexpr size_t kMaxExpertBytes = 128;
constexpr size_t kMaxFieldBytes = 128;
constexpr size_t kMaxAlternatives = 7;

absl::Status CheckLength(absl::string_view what, size_t found, size_t most) {
  if (found <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": expected at most ", most, " bytes, found ", found));
}

void SetExpert(const ExpertRef& expert, v1::Decision* decision) {
  decision->mutable_expert()->set_name(expert.name);
  decision->mutable_expert()->set_version(expert.version);
}

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
  CCOE_RETURN_IF_ERROR_IN(placement::CheckWorkers(*plan), name);
  if (!options.model_folder.empty()) {
    CCOE_RETURN_IF_ERROR_IN(CheckAgainstModel(*plan, options.model_folder), name);
  }
  LOG(INFO) << "router: " << name << " of FFN experts over " << plan->workers.size() << " workers";
  return plan;
}

}  // namespace

grpc::Status RoutingService::Route(grpc::ServerContext* context, const v1::RouteRequest* request,
                                   v1::RouteResponse* response) {
  const absl::Time start = absl::Now();
  const absl::Status status = RouteTo(*request, response);
  if (!status.ok()) metrics_.failed_routes.Increment(status.code());
  metrics_.route_seconds.Observe(absl::ToDoubleSeconds(absl::Now() - start));
  return ToGrpc(status, context);
}

absl::Status RoutingService::RouteTo(const v1::RouteRequest& request, v1::RouteResponse* response) {
  CCOE_RETURN_IF_ERROR(CheckLength("expert", request.expert().size(), kMaxExpertBytes));
  CCOE_RETURN_IF_ERROR(CheckLength("tenant", request.tenant().size(), kMaxFieldBytes));
  CCOE_RETURN_IF_ERROR(CheckLength("request id", request.request_id().size(), kMaxFieldBytes));
  CCOE_ASSIGN_OR_RETURN(*response->mutable_decision(), Decide(request));
  if (request.decision_only()) return absl::OkStatus();
  CCOE_ASSIGN_OR_RETURN(std::vector<v1::BackboneWorker> workers, cluster_.TakeBackbones());
  *response->mutable_backbone() = std::move(workers.front());
  for (size_t i = 1; i < workers.size() && i <= kMaxAlternatives; ++i) {
    *response->add_alternatives() = std::move(workers[i]);
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Decision> RoutingService::Decide(const v1::RouteRequest& request) {
  if (!request.expert().empty()) return DecideExplicit(request.expert());
  if (const auto match = rules_->Classify(request.text(), request.tenant()); match.has_value()) {
    return DecideByRule(*match);
  }
  metrics_.default_decisions.Increment();
  v1::Decision decision;
  decision.set_reason(v1::ROUTE_REASON_DEFAULT);
  decision.set_explanation(rules_->size() == 0 ? "the router has no rules: base model"
                                               : "no rule matched: base model");
  return decision;
}

absl::StatusOr<v1::Decision> RoutingService::DecideExplicit(const std::string& wanted) {
  v1::Decision decision;
  decision.set_reason(v1::ROUTE_REASON_EXPLICIT);
  decision.set_explanation(absl::StrCat("the client asked for \"", wanted, "\""));
  if (wanted != kBase) {
    CCOE_ASSIGN_OR_RETURN(const ExpertRef parsed, ExpertRef::Parse(wanted));
    CCOE_ASSIGN_OR_RETURN(const ExpertRef expert, cluster_.ResolveKnown(parsed));
    SetExpert(expert, &decision);
  }
  metrics_.explicit_decisions.Increment();
  return decision;
}

v1::Decision RoutingService::DecideByRule(const routing::RuleMatch& match) {
  v1::Decision decision;
  decision.set_reason(v1::ROUTE_REASON_RULE);
  decision.set_rule(match.rule);
  decision.set_explanation(match.explanation);
  if (match.expert.empty()) {
    metrics_.rule_decisions.Increment();
    return decision;
  }
  const absl::StatusOr<ExpertRef> expert = cluster_.Resolve(match.expert);
  if (expert.ok()) {
    SetExpert(*expert, &decision);
    metrics_.rule_decisions.Increment();
    return decision;
  }
  // A rule is advice: a query is rather answered by the base than not at all.
  decision.set_explanation(absl::StrCat(match.explanation, "; no ready worker holds expert \"",
                                        match.expert.ToString(), "\": base model"));
  metrics_.fallback_decisions.Increment();
  return decision;
}

grpc::Status RoutingService::ListExperts(grpc::ServerContext*, const v1::ListExpertsRequest*,
                                         v1::ListExpertsResponse* response) {
  for (v1::ExpertInfo& info : cluster_.Experts()) *response->add_experts() = std::move(info);
  return grpc::Status::OK;
}

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
