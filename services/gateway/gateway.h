// SPDX-License-Identifier: Apache-2.0
// A gateway: everything between a client's gRPC call and the router and backbone workers.
#ifndef CCOE_SERVICES_GATEWAY_GATEWAY_H_
#define CCOE_SERVICES_GATEWAY_GATEWAY_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ccoe/v1/control.grpc.pb.h"
#include "services/common/role_environment.h"
#include "services/common/server_runner.h"
#include "services/common/stubs.h"
#include "services/gateway/backbone_stubs.h"
#include "services/gateway/inference_service.h"
#include "services/gateway/query.h"
#include "services/gateway/readiness.h"

namespace ccoe::services {

// The operators' view of the cluster at the gateway's address: Control.GetStatus, answered by the
// router, and Control.GetMoeStatistics, by all backbone workers. Workers register at the router
// itself, so Register is UNIMPLEMENTED here. Thread-safe.
class StatusService final : public v1::Control::Service {
 public:
  // Both must outlive the service.
  StatusService(ControlStub* router, BackboneStubs* backbones)
      : router_(router), backbones_(backbones) {}

  grpc::Status GetStatus(grpc::ServerContext* context, const v1::GetStatusRequest* request,
                         v1::ClusterStatus* response) override;
  grpc::Status GetMoeStatistics(grpc::ServerContext* context,
                                const v1::GetMoeStatisticsRequest* request,
                                v1::MoeStatistics* response) override;

 private:
  ControlStub* const router_;
  BackboneStubs* const backbones_;
};

struct GatewayOptions {
  std::string model_folder;  // tokenizer and config.json; no weights
  std::string router;        // address
  std::vector<std::string> listen = {"127.0.0.1:8001"};
  int64_t max_queries = 256;  // at once; one more gets RESOURCE_EXHAUSTED
  // Of queries whose client set no deadline, or a later one.
  absl::Duration longest_query = absl::Minutes(30);
  absl::Duration probe_interval =
      absl::Seconds(30);  // of each expert, where no client's query says that it lives
  absl::Duration probe_timeout = absl::Seconds(30);
};

// Thread-safe. Destruction cancels what runs.
class Gateway {
 public:
  // Loads and serves; does not wait for a router (see ready). Errors name the file or address.
  // `environment.team` is not needed.
  static absl::StatusOr<std::unique_ptr<Gateway>> Create(const GatewayOptions& options,
                                                         const RoleEnvironment& environment);
  ~Gateway();

  // Refuses new queries, lets running ones end until `grace` is over, cancels the rest.
  void Drain(absl::Duration grace);

  // OK once a token was generated through the whole path with the base and each expert; else what
  // does not answer and why.
  absl::Status ready() const;

  // "host:port" with the real ports.
  const std::vector<std::string>& addresses() const { return server_->addresses(); }

 private:
  Gateway(const GatewayOptions& options, const RoleEnvironment& environment)
      : options_(options), environment_(environment) {}

  absl::Status Start();
  void StartReadiness();
  absl::StatusOr<std::vector<std::string>> ListExperts();
  // Generates a token as a client would.
  absl::Status Probe(const std::string& expert);
  void OnOutcome(const std::string& expert, const absl::Status& status);

  const GatewayOptions options_;
  const RoleEnvironment environment_;
  const SystemClock clock_;
  // In the order in which they need each other.
  std::unique_ptr<ModelText> model_;
  std::unique_ptr<RoutingStub> routing_;
  std::unique_ptr<ControlStub> control_;
  std::unique_ptr<BackboneStubs> backbones_;
  std::unique_ptr<QueryMetrics> metrics_;
  std::unique_ptr<Admission> admission_;
  QueryParts parts_;
  std::unique_ptr<InferenceService> service_;
  std::unique_ptr<StatusService> status_;
  std::unique_ptr<ServerRunner> server_;
  std::unique_ptr<Readiness> readiness_owner_;
  std::atomic<Readiness*> readiness_ = nullptr;  // null before it was made and once it is going
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_GATEWAY_GATEWAY_H_
