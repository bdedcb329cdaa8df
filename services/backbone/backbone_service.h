// Backbone.Generate: a wire form of engine::Engine::Submit.
#ifndef CCOE_SERVICES_BACKBONE_BACKBONE_SERVICE_H_
#define CCOE_SERVICES_BACKBONE_BACKBONE_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>

#include "ccoe/v1/backbone.grpc.pb.h"
#include "services/backbone/query_engine.h"

namespace ccoe::services {

struct BackboneServiceOptions {
  int64_t max_unsent_tokens = 4096;  // of one query; a reader further behind is cancelled
};

// Thread-safe.
class BackboneService final : public v1::Backbone::CallbackService {
 public:
  // `engine` must outlive the service's calls.
  explicit BackboneService(QueryEngine* engine, BackboneServiceOptions options = {})
      : engine_(engine), options_(options) {}

  grpc::ServerWriteReactor<v1::BackboneGenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::BackboneGenerateRequest* request) override;

 private:
  QueryEngine* const engine_;
  const BackboneServiceOptions options_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_BACKBONE_BACKBONE_SERVICE_H_
