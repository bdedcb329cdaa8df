// SPDX-License-Identifier: Apache-2.0
// A backbone worker without an engine: a server whose answers are a test's function.
#ifndef CCOE_TESTS_TESTING_FAKE_BACKBONE_H_
#define CCOE_TESTS_TESTING_FAKE_BACKBONE_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "ccoe/v1/backbone.grpc.pb.h"
#include "runtime/base/check.h"
#include "services/common/server_runner.h"
#include "services/common/status_to_grpc.h"

namespace ccoe::testing {

class FakeBackbone final : public v1::Backbone::Service {
 public:
  using Writer = grpc::ServerWriter<v1::BackboneGenerateResponse>;
  // One call; runs on a thread of the server's.
  using Script = std::function<absl::Status(const v1::BackboneGenerateRequest& request,
                                            grpc::ServerContext& context, Writer& writer)>;

  // Serves as "inproc:NAME".
  FakeBackbone(services::InProcessRegistry* registry, const std::string& name, Script script)
      : script_(std::move(script)) {
    services::ServerOptions options;
    options.listen.clear();
    options.services = {{this, std::string(v1::Backbone::service_full_name())}};
    options.in_process_name = name;
    options.registry = registry;
    auto server = services::ServerRunner::Start(std::move(options));
    CCOE_CHECK(server.ok());
    server_ = *std::move(server);
  }
  ~FakeBackbone() override { server_.reset(); }

  grpc::Status Generate(grpc::ServerContext* context, const v1::BackboneGenerateRequest* request,
                        Writer* writer) override {
    return services::ToGrpc(script_(*request, *context, *writer), context);
  }

  // What GetMoeStatistics answers; call it before anybody asks.
  void SetMoeStatistics(v1::MoeStatistics statistics) { moe_statistics_ = std::move(statistics); }

  grpc::Status GetMoeStatistics(grpc::ServerContext*, const v1::GetMoeStatisticsRequest*,
                                v1::MoeStatistics* response) override {
    *response = moe_statistics_;
    return grpc::Status::OK;
  }

  static bool Say(Writer& writer, const std::vector<int32_t>& ids) {
    v1::BackboneGenerateResponse response;
    for (int32_t id : ids) response.mutable_tokens()->add_tokens()->set_id(id);
    return writer.Write(response);
  }

  static void Done(Writer& writer, v1::FinishReason reason, int64_t generated) {
    v1::BackboneGenerateResponse response;
    response.mutable_done()->set_reason(reason);
    response.mutable_done()->mutable_usage()->set_generated_tokens(generated);
    writer.Write(response);
  }

  // Whether the caller cancels within a minute.
  static bool AwaitCancel(grpc::ServerContext& context) {
    const absl::Time deadline = absl::Now() + absl::Minutes(1);
    while (!context.IsCancelled() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
    return context.IsCancelled();
  }

 private:
  const Script script_;
  v1::MoeStatistics moe_statistics_;
  std::unique_ptr<services::ServerRunner> server_;
};

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_FAKE_BACKBONE_H_
