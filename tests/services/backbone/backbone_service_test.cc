// SPDX-License-Identifier: Apache-2.0
#include "services/backbone/backbone_service.h"

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "services/common/server_runner.h"
#include "services/common/status_to_grpc.h"
#include "tests/testing/scripted_query_engine.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class BackboneServiceTest : public ::testing::Test {
 protected:
  void Start(int64_t max_unsent_tokens = 4096) {
    service_ = std::make_unique<BackboneService>(&engine_, moe_, max_unsent_tokens);
    ServerOptions server;
    server.services = {{service_.get(), std::string(v1::Backbone::service_full_name())}};
    ASSERT_OK_AND_ASSIGN(server_, ServerRunner::Start(std::move(server)));
    ASSERT_OK_AND_ASSIGN(auto channel, ChannelFactory(nullptr).Connect(server_->addresses()[0]));
    stub_ = v1::Backbone::NewStub(channel);
    request_.set_request_id("q-1");
    request_.add_prompt(5);
    request_.add_prompt(6);
  }

  // Reads to the end.
  absl::Status Drain(grpc::ClientReader<v1::BackboneGenerateResponse>& reader) {
    v1::BackboneGenerateResponse response;
    while (reader.Read(&response)) {
      for (const v1::Token& token : response.tokens().tokens()) ids_.push_back(token.id());
      if (response.has_done()) done_ = response.done();
    }
    return FromGrpc(reader.Finish(), context_);
  }

  testing::ScriptedQueryEngine engine_;
  engine::MoeStatistics* moe_ = nullptr;
  std::unique_ptr<BackboneService> service_;
  std::unique_ptr<ServerRunner> server_;
  std::unique_ptr<v1::Backbone::Stub> stub_;
  grpc::ClientContext context_;
  v1::BackboneGenerateRequest request_;
  std::vector<int32_t> ids_;
  v1::Done done_;
};

TEST_F(BackboneServiceTest, PassesTheQueryDownAndItsTokensUpInOrder) {
  Start();
  request_.mutable_expert()->set_name("math");
  request_.mutable_expert()->set_version(2);
  request_.mutable_sampling()->set_max_tokens(7);
  const absl::Time deadline = absl::Now() + absl::Minutes(10);
  context_.set_deadline(absl::ToChronoTime(deadline));
  auto reader = stub_->Generate(&context_, request_);
  const engine::EngineRequest query = engine_.AwaitQuery(1);
  EXPECT_EQ(query.query_id, "q-1");
  EXPECT_THAT(query.prompt, ElementsAre(5, 6));
  EXPECT_EQ(query.expert, (ExpertRef{"math", 2}));
  EXPECT_EQ(query.sampling.max_tokens, 7);
  // It travels as the time that is left, rounded.
  EXPECT_LT(absl::AbsDuration(query.deadline - deadline), absl::Minutes(2));
  std::vector<int32_t> said;
  for (int32_t id = 0; id < 100; ++id) {
    engine_.Say(1, id);
    said.push_back(id);
  }
  engine::Usage usage;
  usage.prompt_tokens = 2;
  usage.generated_tokens = 100;
  engine_.Finish(1, engine::FinishReason::kLength, absl::OkStatus(), usage);
  ASSERT_OK(Drain(*reader));
  EXPECT_EQ(ids_, said);
  EXPECT_EQ(done_.reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(done_.usage().generated_tokens(), 100);
  EXPECT_EQ(done_.expert().version(), 2);
}

TEST_F(BackboneServiceTest, AnErrorOfTheEngineEndsTheCallWithItsCodeAndRetryHint) {
  Start();
  engine_.Refuse(WithRetryAfter(absl::ResourceExhaustedError("queue full"), absl::Seconds(2)));
  auto reader = stub_->Generate(&context_, request_);
  const absl::Status status = Drain(*reader);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("queue full")));
  EXPECT_EQ(RetryAfter(status), absl::Seconds(2));
}

TEST_F(BackboneServiceTest, AnErrorAfterSomeTokensComesAfterThem) {
  Start();
  auto reader = stub_->Generate(&context_, request_);
  engine_.AwaitQuery(1);
  engine_.Say(1, 42);
  engine_.Finish(1, engine::FinishReason::kError, absl::UnavailableError("expert worker died"));
  EXPECT_THAT(Drain(*reader), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("died")));
  EXPECT_THAT(ids_, ElementsAre(42));
}

TEST_F(BackboneServiceTest, AMalformedExpertIsRefusedBeforeTheEngineSeesIt) {
  Start();
  request_.mutable_expert()->set_name("no spaces");
  auto reader = stub_->Generate(&context_, request_);
  EXPECT_THAT(Drain(*reader), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no spaces")));
}

TEST_F(BackboneServiceTest, TheAnswerSaysWhichControlOfGatesWasApplied) {
  Start();
  request_.mutable_moe()->set_active_experts(2);
  auto reader = stub_->Generate(&context_, request_);
  const engine::EngineRequest query = engine_.AwaitQuery(1);
  ASSERT_NE(query.moe, nullptr);
  EXPECT_EQ(query.moe->all_layers.active_experts, 2);
  engine_.Finish(1, engine::FinishReason::kStop, absl::OkStatus());
  ASSERT_OK(Drain(*reader));
  EXPECT_EQ(done_.moe().active_experts(), 2);
}

TEST_F(BackboneServiceTest, WithoutControlTheAnswerRecordsNone) {
  Start();
  auto reader = stub_->Generate(&context_, request_);
  engine_.AwaitQuery(1);
  engine_.Finish(1, engine::FinishReason::kStop, absl::OkStatus());
  ASSERT_OK(Drain(*reader));
  EXPECT_FALSE(done_.has_moe());
}

TEST_F(BackboneServiceTest, SaysWhatGatesChoseAndForgetsItWhenAsked) {
  model::ModelSpec spec;
  spec.layers.resize(1);
  spec.layers[0].ffn.kind = model::FfnKind::kMoe;
  spec.layers[0].ffn.moe.experts = 3;
  engine::MoeStatistics statistics(spec);
  statistics.Add(0, {0, 2}, {0, 2});
  moe_ = &statistics;
  Start();
  v1::GetMoeStatisticsRequest request;
  request.set_co_activation(true);
  request.set_reset(true);
  v1::MoeStatistics answer;
  ASSERT_OK(FromGrpc(stub_->GetMoeStatistics(&context_, request, &answer)));
  ASSERT_EQ(answer.layers_size(), 1);
  EXPECT_THAT(answer.layers(0).tokens(), ElementsAre(1, 0, 1));
  EXPECT_THAT(answer.layers(0).co_activation(), ElementsAre(0, 1, 0));
  EXPECT_EQ(statistics.Snapshot(/*with_pairs=*/false).layers[0].rows, 0u);
}

TEST_F(BackboneServiceTest, AModelWithoutGatesHasNoStatistics) {
  Start();
  v1::MoeStatistics answer;
  ASSERT_OK(FromGrpc(stub_->GetMoeStatistics(&context_, {}, &answer)));
  EXPECT_EQ(answer.layers_size(), 0);
}

TEST_F(BackboneServiceTest, CancellingTheCallCancelsTheQuery) {
  Start();
  auto reader = stub_->Generate(&context_, request_);
  engine_.AwaitQuery(1);
  engine_.Say(1, 1);
  context_.TryCancel();
  EXPECT_TRUE(engine_.AwaitCancel(1));
  engine_.Finish(1, engine::FinishReason::kCancelled, absl::CancelledError("cancelled"));
  EXPECT_THAT(Drain(*reader), StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(BackboneServiceTest, AReaderThatFallsTooFarBehindLosesItsQuery) {
  Start(/*max_unsent_tokens=*/1000);
  auto reader = stub_->Generate(&context_, request_);
  engine_.AwaitQuery(1);
  // Nobody reads: what fits into the buffers on the way goes out, then tokens gather.
  for (int i = 0; i < 3000000 && !engine_.cancelled(1); ++i) engine_.Say(1, i);
  EXPECT_TRUE(engine_.AwaitCancel(1));
  engine_.Finish(1, engine::FinishReason::kCancelled, absl::CancelledError("cancelled"));
  EXPECT_THAT(Drain(*reader), StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(BackboneServiceTest, TheServerCanGoWhileQueriesRun) {
  Start();
  auto reader = stub_->Generate(&context_, request_);
  engine_.AwaitQuery(1);
  std::thread engine([this] {
    EXPECT_TRUE(engine_.AwaitCancel(1));
    engine_.Finish(1, engine::FinishReason::kCancelled, absl::CancelledError("cancelled"));
  });
  server_.reset();
  engine.join();
  EXPECT_FALSE(Drain(*reader).ok());
}

TEST(TokenStreamTest, TheEngineMaySpeakUntilItLetsGoEvenWhereTheCallIsOver) {
  testing::ScriptedQueryEngine engine;
  BackboneService service(&engine, /*moe=*/nullptr, /*max_unsent_tokens=*/4);
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
  BackboneService service(&engine, /*moe=*/nullptr, /*max_unsent_tokens=*/4);
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
