// SPDX-License-Identifier: Apache-2.0
#include "services/gateway/inference_service.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "services/common/status_to_grpc.h"

namespace ccoe::services {
namespace {

constexpr absl::Duration kShortestHint = absl::Milliseconds(100);
constexpr absl::Duration kLongestHint = absl::Seconds(30);

absl::Status Tokenize(const v1::TokenizeRequest& request, const ModelText& model,
                      v1::TokenizeResponse& response) {
  std::vector<int32_t> ids;
  switch (request.input_case()) {
    case v1::TokenizeRequest::kText: {
      CCOE_ASSIGN_OR_RETURN(ids, model.Encode(request.text(), !request.no_special()));
      break;
    }
    case v1::TokenizeRequest::kChat: {
      CCOE_ASSIGN_OR_RETURN(ids, model.Encode(request.chat()));
      break;
    }
    case v1::TokenizeRequest::kTokenIds: {
      CCOE_ASSIGN_OR_RETURN(*response.mutable_text(),
                            model.Decode(request.token_ids(), request.no_special()));
      *response.mutable_ids() = request.token_ids().ids();
      return absl::OkStatus();
    }
    case v1::TokenizeRequest::INPUT_NOT_SET:
      return absl::InvalidArgumentError("input: expected text, token_ids or chat, found none");
  }
  response.mutable_ids()->Add(ids.begin(), ids.end());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Admission::Ticket>> Admission::Enter() {
  absl::MutexLock lock(&mutex_);
  if (taken_ >= limit_) {
    return WithRetryAfter(
        absl::ResourceExhaustedError(
            absl::StrCat("the gateway is full: ", limit_, " queries are running; come back later")),
        std::clamp(mean_gap_, kShortestHint, kLongestHint));
  }
  // Gaps are measured between ends while busy: a quiet hour says nothing about them.
  if (taken_ == 0) last_end_ = absl::InfinitePast();
  ++taken_;
  return std::make_unique<Ticket>(this);
}

void Admission::Leave() {
  const absl::Time now = clock_->Now();
  absl::MutexLock lock(&mutex_);
  --taken_;
  if (last_end_ != absl::InfinitePast()) {
    mean_gap_ = 0.8 * mean_gap_ + 0.2 * (now - last_end_);
  }
  last_end_ = now;
}

int64_t Admission::taken() const {
  absl::MutexLock lock(&mutex_);
  return taken_;
}

grpc::Status InferenceService::Generate(grpc::ServerContext* context,
                                        const v1::GenerateRequest* request,
                                        grpc::ServerWriter<v1::GenerateResponse>* writer) {
  absl::StatusOr<std::unique_ptr<Admission::Ticket>> ticket = admission_->Enter();
  if (!ticket.ok()) {
    parts_.observer->OnRefused(ticket.status());
    return ToGrpc(ticket.status(), context);
  }
  const auto deadline =
      std::min(context->deadline(), absl::ToChronoTime(absl::Now() + longest_query_));
  QueryCaller caller;
  caller.new_context = [context, deadline] {
    std::unique_ptr<grpc::ClientContext> call = grpc::ClientContext::FromServerContext(*context);
    call->set_deadline(deadline);
    return call;
  };
  caller.send = [writer](const v1::GenerateResponse& response) { return writer->Write(response); };
  return ToGrpc(Query(parts_, std::move(caller)).Run(*request), context);
}

grpc::Status InferenceService::Tokenize(grpc::ServerContext* context,
                                        const v1::TokenizeRequest* request,
                                        v1::TokenizeResponse* response) {
  return ToGrpc(services::Tokenize(*request, *parts_.model, *response), context);
}

grpc::Status InferenceService::ListExperts(grpc::ServerContext* context,
                                           const v1::ListExpertsRequest* request,
                                           v1::ListExpertsResponse* response) {
  absl::StatusOr<v1::ListExpertsResponse> experts = parts_.routing->ListExperts(*request);
  if (experts.ok()) *response = *std::move(experts);
  return ToGrpc(experts.status(), context);
}

grpc::Status InferenceService::Route(grpc::ServerContext* context,
                                     const v1::RouteTextRequest* request, v1::Decision* response) {
  absl::StatusOr<v1::Decision> decision = [&]() -> absl::StatusOr<v1::Decision> {
    CCOE_RETURN_IF_ERROR(CheckName("tenant", request->tenant()));
    CCOE_RETURN_IF_ERROR(CheckExpertChoice(request->expert()));
    v1::RouteRequest route;
    route.set_text(RoutedPart(request->text()));
    route.set_expert(request->expert());
    route.set_tenant(request->tenant());
    route.set_decision_only(true);
    CCOE_ASSIGN_OR_RETURN(v1::RouteResponse routed, parts_.routing->Route(route));
    return routed.decision();
  }();
  if (decision.ok()) *response = *std::move(decision);
  return ToGrpc(decision.status(), context);
}

}  // namespace ccoe::services
