// The Backbone service: a wire form of engine::Engine::Submit and of what its gates chose.
#ifndef CCOE_SERVICES_BACKBONE_BACKBONE_SERVICE_H_
#define CCOE_SERVICES_BACKBONE_BACKBONE_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>

#include "ccoe/v1/backbone.grpc.pb.h"
#include "runtime/engine/moe_statistics.h"
#include "services/backbone/query_engine.h"

namespace ccoe::services {

struct BackboneServiceOptions {
  int64_t max_unsent_tokens = 4096;  // of one query; a reader further behind is cancelled
};

// Thread-safe.
class BackboneService final : public v1::Backbone::CallbackService {
 public:
  // `engine` and `moe` (null: a model without MoE layers) must outlive the service's calls.
  explicit BackboneService(QueryEngine* engine, BackboneServiceOptions options = {},
                           engine::MoeStatistics* moe = nullptr)
      : engine_(engine), options_(options), moe_(moe) {}

  grpc::ServerWriteReactor<v1::BackboneGenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::BackboneGenerateRequest* request) override;
  grpc::ServerUnaryReactor* GetMoeStatistics(grpc::CallbackServerContext* context,
                                             const v1::GetMoeStatisticsRequest* request,
                                             v1::MoeStatistics* response) override;

 private:
  QueryEngine* const engine_;
  const BackboneServiceOptions options_;
  engine::MoeStatistics* const moe_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_BACKBONE_BACKBONE_SERVICE_H_
