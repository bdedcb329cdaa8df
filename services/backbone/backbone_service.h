// SPDX-License-Identifier: Apache-2.0
// The Backbone service: a wire form of engine::Engine::Submit and of what its gates chose.
#ifndef CCOE_SERVICES_BACKBONE_BACKBONE_SERVICE_H_
#define CCOE_SERVICES_BACKBONE_BACKBONE_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "ccoe/v1/backbone.grpc.pb.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/moe_statistics.h"
#include "runtime/engine/request.h"

namespace ccoe::services {

// What the service needs of an engine; a test puts a script in its place. As engine::Engine's
// methods of these names. Thread-safe.
class QueryEngine {
 public:
  virtual ~QueryEngine() = default;
  virtual absl::StatusOr<uint64_t> Submit(engine::EngineRequest query,
                                          std::unique_ptr<engine::TokenSink> sink) = 0;
  virtual void Cancel(uint64_t handle) = 0;
};

// The real one.
class LocalQueryEngine final : public QueryEngine {
 public:
  // `engine` must outlive this.
  explicit LocalQueryEngine(engine::Engine* engine) : engine_(engine) {}

  absl::StatusOr<uint64_t> Submit(engine::EngineRequest query,
                                  std::unique_ptr<engine::TokenSink> sink) override {
    return engine_->Submit(std::move(query), std::move(sink));
  }
  void Cancel(uint64_t handle) override { engine_->Cancel(handle); }

 private:
  engine::Engine* const engine_;
};

// Thread-safe.
class BackboneService final : public v1::Backbone::CallbackService {
 public:
  // `engine` and `moe` (null: a model without MoE layers) must outlive the service's calls. Of one
  // query at most `max_unsent_tokens` wait; a reader further behind is cancelled.
  explicit BackboneService(QueryEngine* engine, engine::MoeStatistics* moe = nullptr,
                           int64_t max_unsent_tokens = 4096)
      : engine_(engine), moe_(moe), max_unsent_tokens_(max_unsent_tokens) {}

  grpc::ServerWriteReactor<v1::BackboneGenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::BackboneGenerateRequest* request) override;
  grpc::ServerUnaryReactor* GetMoeStatistics(grpc::CallbackServerContext* context,
                                             const v1::GetMoeStatisticsRequest* request,
                                             v1::MoeStatistics* response) override;

 private:
  QueryEngine* const engine_;
  engine::MoeStatistics* const moe_;
  const int64_t max_unsent_tokens_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_BACKBONE_BACKBONE_SERVICE_H_
