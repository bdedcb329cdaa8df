// SPDX-License-Identifier: Apache-2.0
// The cluster's unary calls as StatusOr interfaces, so that callers can be tested without a
// network, and the one way they are made: deadline, retries with growing pauses, a hook for
// metrics. Streams (Generate, Register, Exchange) use the generated stubs.
#ifndef CCOE_SERVICES_COMMON_STUBS_H_
#define CCOE_SERVICES_COMMON_STUBS_H_

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "ccoe/v1/control.pb.h"
#include "ccoe/v1/inference.pb.h"
#include "ccoe/v1/routing.pb.h"

namespace ccoe::services {

// Growing pauses between attempts: first, 2 first, 4 first, ... up to max; each shortened by up to
// 20 % at random, so that peers that failed together do not come back together. Not thread-safe.
class Backoff {
 public:
  Backoff(absl::Duration first, absl::Duration max) : first_(first), max_(max), next_(first) {}

  absl::Duration Next() {
    const absl::Duration pause = next_ * std::uniform_real_distribution<double>(0.8, 1.0)(random_);
    next_ = std::min(next_ * 2, max_);
    return pause;
  }

  void Reset() { next_ = first_; }

 private:
  const absl::Duration first_;
  const absl::Duration max_;
  absl::Duration next_;
  std::minstd_rand random_{std::random_device{}()};
};

struct CallPolicy {
  // For the whole call, retries and backoff included.
  absl::Duration deadline = absl::Seconds(5);
  // 1: no retry. Only UNAVAILABLE is retried, so the call must be idempotent.
  int max_attempts = 3;
  // Doubled after every attempt, each time shortened by up to 20 % at random.
  absl::Duration first_backoff = absl::Milliseconds(50);
  absl::Duration max_backoff = absl::Seconds(1);
  // Called after every attempt; from the calling thread. Unset: nothing.
  std::function<void(absl::string_view method, const absl::Status& status, absl::Duration took)>
      on_attempt;
};

// Runs `attempt` as `policy` says. The error names the method.
absl::Status CallWithRetries(absl::string_view method, const CallPolicy& policy,
                             absl::FunctionRef<grpc::Status(grpc::ClientContext*)> attempt);

// CallUnary<Response>("Routing.Route", policy, [&](auto* context, auto* response) {
//   return stub->Route(context, request, response); });
template <typename Response, typename Attempt>
absl::StatusOr<Response> CallUnary(absl::string_view method, const CallPolicy& policy,
                                   Attempt&& attempt) {
  Response response;
  const absl::Status status = CallWithRetries(method, policy, [&](grpc::ClientContext* context) {
    response.Clear();
    return attempt(context, &response);
  });
  if (!status.ok()) return status;
  return response;
}

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
