// SPDX-License-Identifier: Apache-2.0
// One query's life in the gateway: route, generate, stream text, try another backbone worker where
// the first is gone; and what it reports of itself.
#ifndef CCOE_SERVICES_GATEWAY_QUERY_H_
#define CCOE_SERVICES_GATEWAY_QUERY_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ccoe/v1/common.pb.h"
#include "ccoe/v1/inference.pb.h"
#include "ccoe/v1/routing.pb.h"
#include "runtime/base/clock.h"
#include "runtime/telemetry/metrics.h"
#include "services/common/stubs.h"
#include "services/gateway/backbone_stubs.h"
#include "services/gateway/prepared_query.h"
#include "services/gateway/text_stream.h"

namespace ccoe::services {

// What a query reports about itself, for metrics and readiness. Thread-safe; must not block.
class QueryObserver {
 public:
  virtual ~QueryObserver() = default;
  // Instead of all others: the query was not admitted.
  virtual void OnRefused(const absl::Status& status) = 0;
  virtual void OnBegin() = 0;
  virtual void OnFirstToken(absl::Duration since_began) = 0;
  virtual void OnNextToken(absl::Duration since_previous) = 0;
  struct End {
    absl::Status status;
    bool routed = false;
    v1::Decision decision;  // where routed
    v1::Usage usage;        // zero where it did not begin to answer
    absl::Duration took;
  };
  // Once after OnBegin.
  virtual void OnEnd(const End& end) = 0;
};

// What queries report, as metrics and as news for readiness. Thread-safe.
class QueryMetrics final : public QueryObserver {
 public:
  // Told how each routed query ended, with its expert ("math@1" or "base").
  using OnOutcome = std::function<void(const std::string& expert, const absl::Status& status)>;

  // `metrics` must outlive this.
  QueryMetrics(telemetry::GatewayMetrics* metrics, OnOutcome on_outcome)
      : metrics_(*metrics), on_outcome_(std::move(on_outcome)) {}

  void OnRefused(const absl::Status& status) override;
  void OnBegin() override;
  void OnFirstToken(absl::Duration since_began) override;
  void OnNextToken(absl::Duration since_previous) override;
  void OnEnd(const End& end) override;

 private:
  telemetry::GatewayMetrics& metrics_;
  const OnOutcome on_outcome_;
};

// "math@1", or "base".
std::string ExpertName(const v1::Decision& decision);

// What all queries of a gateway share. Everything outlives the queries.
struct QueryParts {
  const ModelText* model = nullptr;
  RoutingStub* routing = nullptr;
  BackboneStubs* backbones = nullptr;
  QueryObserver* observer = nullptr;
  const Clock* clock = nullptr;
};

// How a query hangs on its caller.
struct QueryCaller {
  // A context for a call to a backbone worker that carries the caller's deadline and cancellation.
  // Required.
  std::function<std::unique_ptr<grpc::ClientContext>()> new_context;
  // Hands a message to the caller; false where the caller is gone. Required.
  std::function<bool(const v1::GenerateResponse&)> send;
};

// Used by one thread, once.
class Query {
 public:
  Query(const QueryParts& parts, QueryCaller caller)
      : parts_(parts), caller_(std::move(caller)), began_(parts.clock->Now()) {}

  // Sends Started, Deltas and Finished; errors as Inference.Generate. UNAVAILABLE before the first
  // token is tried again on the router's alternatives; later it is the caller's, who has seen half
  // an answer.
  absl::Status Run(const v1::GenerateRequest& request);

 private:
  using Reader = grpc::ClientReaderInterface<v1::BackboneGenerateResponse>;

  absl::Status Answer(const v1::GenerateRequest& request);
  absl::Status SendStarted();
  absl::Status Generate();
  absl::Status GenerateOn(const v1::BackboneWorker& worker);
  // Reads until the answer or the stream ends; false once the rest is not wanted.
  bool ReadAnswer(Reader& reader);
  bool OnTokens(const v1::Tokens& tokens);
  bool SendDelta(v1::Delta delta);
  absl::Status SendFinished();
  // The backbone worker's, or, where its call was ended early, what was seen here.
  v1::Usage Usage() const;

  const QueryParts parts_;
  const QueryCaller caller_;
  const absl::Time began_;
  PreparedQuery query_;
  v1::RouteResponse route_;
  std::unique_ptr<TextStream> text_;
  v1::FinishReason finish_reason_ = v1::FINISH_REASON_UNSPECIFIED;
  std::optional<v1::Usage> worker_usage_;
  std::optional<v1::MoeControl> applied_moe_;
  bool routed_ = false;
  bool done_ = false;  // the answer is complete
  bool caller_gone_ = false;
  int64_t generated_ = 0;
  absl::Time first_token_ = absl::InfinitePast();
  absl::Time last_token_ = absl::InfinitePast();
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_GATEWAY_QUERY_H_
