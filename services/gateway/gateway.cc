// SPDX-License-Identifier: Apache-2.0
#include "services/gateway/gateway.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "services/backbone/proto_conversions.h"
#include "services/common/status_to_grpc.h"
#include "services/gateway/backbone_stubs.h"

namespace ccoe::services {
namespace {

// Probes are no clients' queries and stay out of their metrics.
class NoObserver final : public QueryObserver {
 public:
  void OnRefused(const absl::Status&) override {}
  void OnBegin() override {}
  void OnFirstToken(absl::Duration) override {}
  void OnNextToken(absl::Duration) override {}
  void OnEnd(const End&) override {}
};

// Threads of the server beside those that queries hold: for health, reflection, short calls, and
// for telling many clients at once that it is full and when to come back. Beyond them gRPC itself
// refuses, without a hint.
constexpr int kSpareThreads = 512;

}  // namespace

grpc::Status StatusService::GetStatus(grpc::ServerContext* context,
                                      const v1::GetStatusRequest* request,
                                      v1::ClusterStatus* response) {
  absl::StatusOr<v1::ClusterStatus> status = router_->GetStatus(*request);
  if (!status.ok()) return ToGrpc(status.status());
  *response = *std::move(status);
  return grpc::Status::OK;
}

grpc::Status StatusService::GetMoeStatistics(grpc::ServerContext* context,
                                             const v1::GetMoeStatisticsRequest* request,
                                             v1::MoeStatistics* response) {
  absl::StatusOr<v1::MoeStatistics> statistics =
      CollectMoeStatistics(*request, *router_, *backbones_);
  if (statistics.ok()) *response = *std::move(statistics);
  return ToGrpc(statistics.status(), context);
}

absl::StatusOr<std::unique_ptr<Gateway>> Gateway::Create(const GatewayOptions& options,
                                                         const RoleEnvironment& environment) {
  CCOE_CHECK(environment.channels != nullptr && environment.metrics != nullptr);
  if (options.max_queries < 1 || options.max_queries > 65536) {
    return absl::InvalidArgumentError(
        absl::StrCat("queries at once: expected 1 to 65536, found ", options.max_queries));
  }
  std::unique_ptr<Gateway> gateway(new Gateway(options, environment));
  CCOE_RETURN_IF_ERROR(gateway->Start());
  gateway->StartReadiness();
  return gateway;
}

Gateway::~Gateway() { Drain(absl::ZeroDuration()); }

absl::Status Gateway::Start() {
  environment_.Progress(absl::StrCat("gateway: tokenizer ", options_.model_folder));
  CCOE_ASSIGN_OR_RETURN(model_, ModelText::Load(options_.model_folder));
  CCOE_ASSIGN_OR_RETURN(auto channel, environment_.channels->Connect(options_.router));
  routing_ = MakeRoutingStub(channel);
  control_ = MakeControlStub(std::move(channel));
  backbones_ = std::make_unique<BackboneStubs>(environment_.channels);
  metrics_ = std::make_unique<QueryMetrics>(
      &environment_.metrics->gateway(),
      [this](const std::string& expert, const absl::Status& status) { OnOutcome(expert, status); });
  admission_ = std::make_unique<Admission>(options_.max_queries, &clock_);
  parts_.model = model_.get();
  parts_.routing = routing_.get();
  parts_.backbones = backbones_.get();
  parts_.observer = metrics_.get();
  parts_.clock = &clock_;
  service_ = std::make_unique<InferenceService>(parts_, admission_.get(), options_.longest_query);
  status_ = std::make_unique<StatusService>(control_.get(), backbones_.get());
  ServerOptions server;
  server.listen = options_.listen;
  server.services = {{service_.get(), std::string(v1::Inference::service_full_name())},
                     {status_.get(), std::string(v1::Control::service_full_name())}};
  server.max_threads = static_cast<int>(options_.max_queries) + kSpareThreads;
  CCOE_ASSIGN_OR_RETURN(server_, ServerRunner::Start(std::move(server)));
  return absl::OkStatus();
}

void Gateway::StartReadiness() {
  ReadinessOptions readiness;
  readiness.list_experts = [this] { return ListExperts(); };
  readiness.probe = [this](const std::string& expert) { return Probe(expert); };
  readiness.on_change = [this](bool ready) { server_->SetReady(ready); };
  readiness.interval = options_.probe_interval;
  readiness_owner_ = std::make_unique<Readiness>(std::move(readiness));
  readiness_.store(readiness_owner_.get());
}

absl::StatusOr<std::vector<std::string>> Gateway::ListExperts() {
  CCOE_ASSIGN_OR_RETURN(const v1::ListExpertsResponse list, routing_->ListExperts({}));
  std::vector<std::string> names;
  for (const v1::ExpertInfo& info : list.experts()) {
    names.push_back(ExpertFromProto(info.expert()).ToString());
  }
  return names;
}

absl::Status Gateway::Probe(const std::string& expert) {
  NoObserver observer;
  QueryParts parts = parts_;
  parts.observer = &observer;
  v1::GenerateRequest request;
  request.mutable_token_ids()->add_ids(std::max(model_->spec().bos_token_id, 0));
  request.set_expert(expert);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_sampling()->set_max_tokens(1);
  request.mutable_sampling()->set_ignore_eos(true);
  bool token = false;
  QueryCaller caller;
  caller.new_context = [deadline = absl::Now() + options_.probe_timeout] {
    auto context = std::make_unique<grpc::ClientContext>();
    context->set_deadline(absl::ToChronoTime(deadline));
    return context;
  };
  caller.send = [&token](const v1::GenerateResponse& response) {
    if (response.delta().tokens_size() > 0) token = true;
    return true;
  };
  CCOE_RETURN_IF_ERROR(Query(parts, std::move(caller)).Run(request));
  return token ? absl::OkStatus() : absl::InternalError("the answer held no token");
}

void Gateway::OnOutcome(const std::string& expert, const absl::Status& status) {
  Readiness* readiness = readiness_.load();
  if (readiness == nullptr) return;
  if (status.ok()) readiness->NoteAnswer(expert);
  if (absl::IsUnavailable(status)) readiness->NoteUnavailable(expert);
}

absl::Status Gateway::ready() const {
  Readiness* readiness = readiness_.load();
  return readiness == nullptr ? absl::UnavailableError("the gateway is stopping")
                              : readiness->status();
}

void Gateway::Drain(absl::Duration grace) {
  if (server_ == nullptr) return;
  readiness_.store(nullptr);
  server_->Drain(grace);
}

}  // namespace ccoe::services
