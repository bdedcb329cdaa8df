// The Routing service: which expert, which backbone worker, and why.
#ifndef CCOE_SERVICES_ROUTER_ROUTING_SERVICE_H_
#define CCOE_SERVICES_ROUTER_ROUTING_SERVICE_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ccoe/v1/routing.grpc.pb.h"
#include "runtime/routing/rules.h"
#include "runtime/telemetry/metrics.h"
#include "services/router/cluster.h"

namespace ccoe::services {

// Thread-safe.
class RoutingService final : public v1::Routing::Service {
 public:
  // `cluster` and `metrics` outlive the service.
  RoutingService(Cluster* cluster, std::unique_ptr<const routing::Rules> rules,
                 telemetry::RouterMetrics* metrics)
      : cluster_(*cluster), rules_(std::move(rules)), metrics_(*metrics) {}

  grpc::Status Route(grpc::ServerContext* context, const v1::RouteRequest* request,
                     v1::RouteResponse* response) override;
  grpc::Status ListExperts(grpc::ServerContext* context, const v1::ListExpertsRequest* request,
                           v1::ListExpertsResponse* response) override;

 private:
  absl::Status RouteTo(const v1::RouteRequest& request, v1::RouteResponse* response);
  // The client's choice, else the rules', else the base.
  absl::StatusOr<v1::Decision> Decide(const v1::RouteRequest& request);
  absl::StatusOr<v1::Decision> DecideExplicit(const std::string& wanted);
  v1::Decision DecideByRule(const routing::RuleMatch& match);

  Cluster& cluster_;
  const std::unique_ptr<const routing::Rules> rules_;
  telemetry::RouterMetrics& metrics_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_ROUTER_ROUTING_SERVICE_H_
