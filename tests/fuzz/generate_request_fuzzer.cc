// SPDX-License-Identifier: Apache-2.0
// Requests of clients, up to what a gateway would ask of a router and a backbone worker. Input: a
// byte; 0 takes what follows as a message of the wire, any other as its text form.
#include <google/protobuf/stubs/logging.h>
#include <google/protobuf/text_format.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "ccoe/v1/inference.pb.h"
#include "runtime/base/check.h"
#include "services/gateway/prepared_query.h"
#include "tests/fuzz/fuzz_input.h"

namespace ccoe::services {

bool ReadRequest(FuzzInput input, v1::GenerateRequest& request) {
  const bool wire = input.Byte() == 0;
  const std::string content(input.Rest());
  if (wire) return request.ParseFromString(content);
  google::protobuf::TextFormat::Parser parser;
  parser.SetRecursionLimit(32);
  // What has come over the wire is UTF-8.
  return parser.ParseFromString(content, &request) &&
         request.ParseFromString(request.SerializeAsString());
}

void Prepare(FuzzInput input) {
  // Else each text that is no UTF-8 is logged.
  [[maybe_unused]] static auto* const silent = google::protobuf::SetLogHandler(nullptr);
  static const ModelText* const model = [] {
    auto loaded = ModelText::Load("tests/golden/models/ccoe/backbone");
    CCOE_CHECK(loaded.ok());
    return loaded->release();
  }();
  v1::GenerateRequest request;
  if (!ReadRequest(input, request)) return;
  const auto query = PrepareQuery(request, *model);
  if (!query.ok()) {
    CCOE_CHECK(query.status().code() == absl::StatusCode::kInvalidArgument);
    CCOE_CHECK(!query.status().message().empty());
    return;
  }
  const int tokens = query->backbone.prompt_size();
  CCOE_CHECK(tokens >= 1 && tokens < model->spec().max_positions);
  CCOE_CHECK(query->route.prompt_tokens() == tokens);
  for (const int32_t id : query->backbone.prompt()) {
    CCOE_CHECK(id >= 0 && id < model->spec().vocab_size);
  }
  CCOE_CHECK(!query->route.request_id().empty() &&
             query->route.request_id() == query->backbone.request_id());
  CCOE_CHECK(query->route.text().size() <= (64 << 10));
  for (const std::string& stop : query->stops) CCOE_CHECK(!stop.empty() && stop.size() <= 256);
  // The router and the worker parse what they are sent.
  CCOE_CHECK(v1::RouteRequest().ParseFromString(query->route.SerializeAsString()));
  CCOE_CHECK(v1::BackboneGenerateRequest().ParseFromString(query->backbone.SerializeAsString()));
}

}  // namespace ccoe::services

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ccoe::services::Prepare({data, size});
  return 0;
}
