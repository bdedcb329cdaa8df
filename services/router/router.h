// SPDX-License-Identifier: Apache-2.0
// The router: which expert, which backbone worker, and why; and its process: cluster, rules,
// services, server.
#ifndef CCOE_SERVICES_ROUTER_ROUTER_H_
#define CCOE_SERVICES_ROUTER_ROUTER_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ccoe/v1/routing.grpc.pb.h"
#include "runtime/base/clock.h"
#include "runtime/placement/plan.h"
#include "runtime/routing/rules.h"
#include "runtime/telemetry/metrics.h"
#include "services/common/role_environment.h"
#include "services/common/server_runner.h"
#include "services/router/cluster_state.h"
#include "services/router/control_service.h"

namespace ccoe::services {

// The Routing service. Thread-safe.
class RoutingService final : public v1::Routing::Service {
 public:
  // `cluster` and `metrics` outlive the service.
  RoutingService(ClusterState* cluster, std::unique_ptr<const routing::Rules> rules,
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

  ClusterState& cluster_;
  const std::unique_ptr<const routing::Rules> rules_;
  telemetry::RouterMetrics& metrics_;
};

struct RouterOptions {
  // The gating rules (docs/routing.md). Empty: none, every query without a named expert goes to the
  // base.
  std::string rules_file;
  // The placement of FFN experts (docs/placement.md). Empty: none, all are with the backbone
  // workers.
  std::string placement_file;
  // Takes the place of placement_file's content where it is set.
  std::optional<placement::Plan> placement;
  // With a placement: the model's folder, which the placement is checked against (config.json;
  // no weights are needed). Empty: only what needs no model is checked.
  std::string model_folder;
  ServeOptions serve;
  // A worker that is silent for so long is forgotten. 0.1 s to 10 minutes.
  absl::Duration lease = absl::Seconds(6);
};

// Thread-safe. Destruction ends all streams.
class Router {
 public:
  // Errors: the rules' and the placement's mistakes (INVALID_ARGUMENT, with lines), a lease out of
  // range, the server's.
  // `clock`, where given, outlives the router; null: the system's. Of `environment`, metrics and
  // in_process are used.
  static absl::StatusOr<std::unique_ptr<Router>> Create(const RouterOptions& options,
                                                        const RoleEnvironment& environment,
                                                        const Clock* clock = nullptr);

  // Ends the workers' streams (they keep their last directive), then drains.
  void Drain(absl::Duration grace) { server_->Drain(grace); }

  // What others dial.
  const std::string& address() const { return address_; }
  const std::vector<std::string>& listening() const { return server_->addresses(); }

  // OK while a backbone worker is ready for queries.
  absl::Status status() const;

 private:
  Router(const RouterOptions& options, const RoleEnvironment& environment, const Clock* clock,
         std::unique_ptr<const routing::Rules> rules, std::optional<placement::Plan> plan);

  const SystemClock system_clock_;
  ClusterState cluster_;
  RoutingService routing_;
  ControlService control_;
  std::string address_;
  std::unique_ptr<ServerRunner> server_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_ROUTER_ROUTER_H_
