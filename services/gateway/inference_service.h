// The Inference service: what clients talk to.
#ifndef CCOE_SERVICES_GATEWAY_INFERENCE_SERVICE_H_
#define CCOE_SERVICES_GATEWAY_INFERENCE_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include "absl/time/time.h"
#include "ccoe/v1/inference.grpc.pb.h"
#include "services/gateway/admission.h"
#include "services/gateway/query.h"

namespace ccoe::services {

struct InferenceOptions {
  // Of queries whose client set no deadline, or a later one.
  absl::Duration longest_query = absl::Minutes(30);
};

// Thread-safe.
class InferenceService final : public v1::Inference::Service {
 public:
  // Everything outlives the service's calls.
  InferenceService(const QueryParts& parts, Admission* admission, InferenceOptions options = {})
      : parts_(parts), admission_(admission), options_(options) {}

  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override;
  grpc::Status Tokenize(grpc::ServerContext* context, const v1::TokenizeRequest* request,
                        v1::TokenizeResponse* response) override;
  grpc::Status ListExperts(grpc::ServerContext* context, const v1::ListExpertsRequest* request,
                           v1::ListExpertsResponse* response) override;
  grpc::Status Route(grpc::ServerContext* context, const v1::RouteTextRequest* request,
                     v1::Decision* response) override;

 private:
  const QueryParts parts_;
  Admission* const admission_;
  const InferenceOptions options_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_GATEWAY_INFERENCE_SERVICE_H_
