#include "services/router/routing_service.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/status_macros.h"
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

}  // namespace ccoe::services
