// SPDX-License-Identifier: Apache-2.0
#include "services/common/stubs.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "ccoe/v1/control.grpc.pb.h"
#include "ccoe/v1/inference.grpc.pb.h"
#include "ccoe/v1/routing.grpc.pb.h"
#include "runtime/base/status_macros.h"
#include "services/common/status_to_grpc.h"

namespace ccoe::services {
namespace {

class GrpcRoutingStub final : public RoutingStub {
 public:
  GrpcRoutingStub(std::shared_ptr<grpc::Channel> channel, CallPolicy policy)
      : stub_(v1::Routing::NewStub(channel)), policy_(std::move(policy)) {}

  absl::StatusOr<v1::RouteResponse> Route(const v1::RouteRequest& request) override {
    return CallUnary<v1::RouteResponse>(
        "Routing.Route", policy_, [&](grpc::ClientContext* context, v1::RouteResponse* response) {
          return stub_->Route(context, request, response);
        });
  }

  absl::StatusOr<v1::ListExpertsResponse> ListExperts(
      const v1::ListExpertsRequest& request) override {
    return CallUnary<v1::ListExpertsResponse>(
        "Routing.ListExperts", policy_,
        [&](grpc::ClientContext* context, v1::ListExpertsResponse* response) {
          return stub_->ListExperts(context, request, response);
        });
  }

 private:
  const std::unique_ptr<v1::Routing::Stub> stub_;
  const CallPolicy policy_;
};

class GrpcControlStub final : public ControlStub {
 public:
  GrpcControlStub(std::shared_ptr<grpc::Channel> channel, CallPolicy policy)
      : stub_(v1::Control::NewStub(channel)), policy_(std::move(policy)) {}

  absl::StatusOr<v1::ClusterStatus> GetStatus(const v1::GetStatusRequest& request) override {
    return CallUnary<v1::ClusterStatus>(
        "Control.GetStatus", policy_,
        [&](grpc::ClientContext* context, v1::ClusterStatus* response) {
          return stub_->GetStatus(context, request, response);
        });
  }

  absl::StatusOr<v1::PlacementPlan> GetPlacement(const v1::GetPlacementRequest& request) override {
    return CallUnary<v1::PlacementPlan>(
        "Control.GetPlacement", policy_,
        [&](grpc::ClientContext* context, v1::PlacementPlan* response) {
          return stub_->GetPlacement(context, request, response);
        });
  }

  absl::StatusOr<v1::MoeStatistics> GetMoeStatistics(
      const v1::GetMoeStatisticsRequest& request) override {
    CallPolicy policy = policy_;
    if (request.reset()) policy.max_attempts = 1;
    return CallUnary<v1::MoeStatistics>(
        "Control.GetMoeStatistics", policy,
        [&](grpc::ClientContext* context, v1::MoeStatistics* response) {
          return stub_->GetMoeStatistics(context, request, response);
        });
  }

 private:
  const std::unique_ptr<v1::Control::Stub> stub_;
  const CallPolicy policy_;
};

class GrpcInferenceStub final : public InferenceStub {
 public:
  GrpcInferenceStub(std::shared_ptr<grpc::Channel> channel, CallPolicy policy)
      : stub_(v1::Inference::NewStub(channel)), policy_(std::move(policy)) {}

  absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request) override {
    return CallUnary<v1::TokenizeResponse>(
        "Inference.Tokenize", policy_,
        [&](grpc::ClientContext* context, v1::TokenizeResponse* response) {
          return stub_->Tokenize(context, request, response);
        });
  }

  absl::StatusOr<v1::ListExpertsResponse> ListExperts(
      const v1::ListExpertsRequest& request) override {
    return CallUnary<v1::ListExpertsResponse>(
        "Inference.ListExperts", policy_,
        [&](grpc::ClientContext* context, v1::ListExpertsResponse* response) {
          return stub_->ListExperts(context, request, response);
        });
  }

  absl::StatusOr<v1::Decision> Route(const v1::RouteTextRequest& request) override {
    return CallUnary<v1::Decision>("Inference.Route", policy_,
                                   [&](grpc::ClientContext* context, v1::Decision* response) {
                                     return stub_->Route(context, request, response);
                                   });
  }

 private:
  const std::unique_ptr<v1::Inference::Stub> stub_;
  const CallPolicy policy_;
};

}  // namespace

absl::Status CallWithRetries(absl::string_view method, const CallPolicy& policy,
                             absl::FunctionRef<grpc::Status(grpc::ClientContext*)> attempt) {
  const absl::Time deadline = absl::Now() + policy.deadline;
  Backoff backoff(policy.first_backoff, policy.max_backoff);
  for (int attempts = 1;; ++attempts) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(deadline));
    const absl::Time start = absl::Now();
    const grpc::Status answer = attempt(&context);
    const absl::Status status = FromGrpc(answer, context);
    if (policy.on_attempt) policy.on_attempt(method, status, absl::Now() - start);
    if (status.ok()) return status;
    const absl::Duration pause = backoff.Next();
    if (!absl::IsUnavailable(status) || attempts >= policy.max_attempts ||
        absl::Now() + pause >= deadline) {
      const absl::Status named = Annotate(status, method);
      const auto hint = RetryAfter(status);
      return hint.has_value() ? WithRetryAfter(named, *hint) : named;
    }
    absl::SleepFor(pause);
  }
}

std::unique_ptr<RoutingStub> MakeRoutingStub(std::shared_ptr<grpc::Channel> channel,
                                             CallPolicy policy) {
  return std::make_unique<GrpcRoutingStub>(std::move(channel), std::move(policy));
}

std::unique_ptr<ControlStub> MakeControlStub(std::shared_ptr<grpc::Channel> channel,
                                             CallPolicy policy) {
  return std::make_unique<GrpcControlStub>(std::move(channel), std::move(policy));
}

std::unique_ptr<InferenceStub> MakeInferenceStub(std::shared_ptr<grpc::Channel> channel,
                                                 CallPolicy policy) {
  return std::make_unique<GrpcInferenceStub>(std::move(channel), std::move(policy));
}

}  // namespace ccoe::services
