#include "services/backbone/token_stream.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "services/common/server_runner.h"
#include "services/common/status_to_grpc.h"
#include "tests/testing/scripted_query_engine.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

// Starts a stream for every call, with a bound of four tokens. What a stream does over its whole
// life stands in backbone_service_test.cc.
class StreamService final : public v1::Backbone::CallbackService {
 public:
  explicit StreamService(QueryEngine* engine) : engine_(engine) {}
  grpc::ServerWriteReactor<v1::BackboneGenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::BackboneGenerateRequest* request) override {
    engine::EngineRequest query;
    query.query_id = request->request_id();
    return TokenStream::Start(engine_, context, query, /*max_unsent=*/4);
  }

 private:
  QueryEngine* const engine_;
};

TEST(TokenStreamTest, TheEngineMaySpeakUntilItLetsGoEvenWhereTheCallIsOver) {
  testing::ScriptedQueryEngine engine;
  StreamService service(&engine);
  ServerOptions options;
  options.services = {{&service, std::string(v1::Backbone::service_full_name())}};
  ASSERT_OK_AND_ASSIGN(const auto server, ServerRunner::Start(std::move(options)));
  ASSERT_OK_AND_ASSIGN(auto channel, ChannelFactory(nullptr).Connect(server->addresses()[0]));
  const auto stub = v1::Backbone::NewStub(channel);
  grpc::ClientContext context;
  auto reader = stub->Generate(&context, v1::BackboneGenerateRequest());
  engine.AwaitQuery(1);
  context.TryCancel();
  ASSERT_TRUE(engine.AwaitCancel(1));
  for (int32_t id = 0; id < 100; ++id) engine.Say(1, id);
  engine.Finish(1, engine::FinishReason::kCancelled, absl::CancelledError("cancelled"));
  v1::BackboneGenerateResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST(TokenStreamTest, AQueryThatIsCancelledBeforeItsHandleIsKnownIsCancelledAllTheSame) {
  // Submit answers only after the caller has gone.
  class SlowEngine final : public QueryEngine {
   public:
    absl::StatusOr<uint64_t> Submit(engine::EngineRequest query,
                                    std::unique_ptr<engine::TokenSink> sink) override {
      context->TryCancel();
      absl::SleepFor(absl::Milliseconds(20));
      return inner.Submit(std::move(query), std::move(sink));
    }
    void Cancel(uint64_t handle) override { inner.Cancel(handle); }
    testing::ScriptedQueryEngine inner;
    grpc::ClientContext* context = nullptr;
  };
  SlowEngine engine;
  StreamService service(&engine);
  ServerOptions options;
  options.services = {{&service, std::string(v1::Backbone::service_full_name())}};
  ASSERT_OK_AND_ASSIGN(const auto server, ServerRunner::Start(std::move(options)));
  ASSERT_OK_AND_ASSIGN(auto channel, ChannelFactory(nullptr).Connect(server->addresses()[0]));
  grpc::ClientContext context;
  engine.context = &context;
  auto reader = v1::Backbone::NewStub(channel)->Generate(&context, v1::BackboneGenerateRequest());
  EXPECT_TRUE(engine.inner.AwaitCancel(1));
  engine.inner.Finish(1, engine::FinishReason::kCancelled, absl::CancelledError("cancelled"));
  v1::BackboneGenerateResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

}  // namespace
}  // namespace ccoe::services
