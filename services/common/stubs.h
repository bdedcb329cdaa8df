// The cluster's unary calls as StatusOr interfaces, so that callers can be tested without a
// network. Streams (Generate, Register, Exchange) use the generated stubs.
#ifndef CCOE_SERVICES_COMMON_STUBS_H_
#define CCOE_SERVICES_COMMON_STUBS_H_

#include <grpcpp/grpcpp.h>

#include <memory>

#include "absl/status/statusor.h"
#include "ccoe/v1/control.pb.h"
#include "ccoe/v1/inference.pb.h"
#include "ccoe/v1/routing.pb.h"
#include "services/common/unary_call.h"

namespace ccoe::services {

// All thread-safe. Errors are the service's own (see the protos), named after the method;
// UNAVAILABLE where the server cannot be reached, DEADLINE_EXCEEDED after CallPolicy::deadline.
class RoutingStub {
 public:
  virtual ~RoutingStub() = default;
  virtual absl::StatusOr<v1::RouteResponse> Route(const v1::RouteRequest& request) = 0;
  virtual absl::StatusOr<v1::ListExpertsResponse> ListExperts(
      const v1::ListExpertsRequest& request) = 0;
};

class ControlStub {
 public:
  virtual ~ControlStub() = default;
  virtual absl::StatusOr<v1::ClusterStatus> GetStatus(const v1::GetStatusRequest& request) = 0;
  virtual absl::StatusOr<v1::PlacementPlan> GetPlacement(
      const v1::GetPlacementRequest& request) = 0;
  // Of a gateway. Not retried with `reset`.
  virtual absl::StatusOr<v1::MoeStatistics> GetMoeStatistics(
      const v1::GetMoeStatisticsRequest& request) = 0;
};

class InferenceStub {
 public:
  virtual ~InferenceStub() = default;
  virtual absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request) = 0;
  virtual absl::StatusOr<v1::ListExpertsResponse> ListExperts(
      const v1::ListExpertsRequest& request) = 0;
  virtual absl::StatusOr<v1::Decision> Route(const v1::RouteTextRequest& request) = 0;
};

// Over gRPC. A call is idempotent unless its comment says otherwise, and is retried as `policy`
// says.
std::unique_ptr<RoutingStub> MakeRoutingStub(std::shared_ptr<grpc::Channel> channel,
                                             CallPolicy policy = {});
std::unique_ptr<ControlStub> MakeControlStub(std::shared_ptr<grpc::Channel> channel,
                                             CallPolicy policy = {});
std::unique_ptr<InferenceStub> MakeInferenceStub(std::shared_ptr<grpc::Channel> channel,
                                                 CallPolicy policy = {});

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_STUBS_H_
