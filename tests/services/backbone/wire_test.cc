#include "services/backbone/wire.h"

#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(WireTest, UnsetSamplingFieldsTakeTheEnginesDefaults) {
  const engine::SamplingParams params = SamplingFromProto(v1::Sampling());
  const engine::SamplingParams defaults;
  EXPECT_EQ(params.temperature, defaults.temperature);
  EXPECT_EQ(params.top_p, defaults.top_p);
  EXPECT_EQ(params.repetition_penalty, defaults.repetition_penalty);
  EXPECT_EQ(params.max_tokens, defaults.max_tokens);
  EXPECT_EQ(params.logprobs, defaults.logprobs);
  EXPECT_FALSE(params.seed.has_value());
}

TEST(WireTest, EverySamplingFieldArrives) {
  v1::Sampling sampling;
  sampling.set_temperature(0);
  sampling.set_top_k(3);
  sampling.set_top_p(0.5f);
  sampling.set_min_p(0.25f);
  sampling.set_repetition_penalty(1.5f);
  sampling.set_presence_penalty(-1);
  sampling.set_frequency_penalty(2);
  sampling.set_seed(0);
  sampling.add_stop_token_ids(9);
  sampling.set_ignore_eos(true);
  sampling.set_min_tokens(4);
  sampling.set_max_tokens(5);
  sampling.set_logprobs(0);
  const engine::SamplingParams params = SamplingFromProto(sampling);
  EXPECT_EQ(params.temperature, 0);
  EXPECT_EQ(params.top_k, 3);
  EXPECT_EQ(params.top_p, 0.5f);
  EXPECT_EQ(params.min_p, 0.25f);
  EXPECT_EQ(params.repetition_penalty, 1.5f);
  EXPECT_EQ(params.presence_penalty, -1);
  EXPECT_EQ(params.frequency_penalty, 2);
  EXPECT_EQ(params.seed, 0u);
  EXPECT_THAT(params.stop_token_ids, ElementsAre(9));
  EXPECT_TRUE(params.ignore_eos);
  EXPECT_EQ(params.min_tokens, 4);
  EXPECT_EQ(params.max_tokens, 5);
  EXPECT_EQ(params.logprobs, 0);
}

TEST(WireTest, TokensCarryTheirLogProbabilities) {
  engine::GeneratedToken token;
  token.token_id = 7;
  EXPECT_FALSE(TokenToProto(token).has_logprob());
  token.logprob = -0.5f;
  token.best = {{7, -0.5f}, {8, -1.5f}};
  const v1::Token proto = TokenToProto(token);
  EXPECT_EQ(proto.id(), 7);
  EXPECT_EQ(proto.logprob(), -0.5f);
  ASSERT_EQ(proto.best_size(), 2);
  EXPECT_EQ(proto.best(1).token_id(), 8);
  EXPECT_EQ(proto.best(1).logprob(), -1.5f);
}

TEST(WireTest, UsageAndReasonsTravel) {
  engine::Usage usage;
  usage.prompt_tokens = 3;
  usage.generated_tokens = 4;
  usage.queue_time = absl::Milliseconds(250);
  usage.preemptions = 1;
  usage.failovers = 2;
  usage.numerics_changed = true;
  const v1::Usage proto = UsageToProto(usage);
  EXPECT_EQ(proto.prompt_tokens(), 3);
  EXPECT_EQ(proto.generated_tokens(), 4);
  EXPECT_EQ(proto.queue_seconds(), 0.25);
  EXPECT_EQ(proto.preemptions(), 1);
  EXPECT_EQ(proto.failovers(), 2);
  EXPECT_TRUE(proto.numerics_changed());
  EXPECT_EQ(FinishReasonToProto(engine::FinishReason::kStop), v1::FINISH_REASON_STOP);
  EXPECT_EQ(FinishReasonToProto(engine::FinishReason::kLength), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(FinishReasonToProto(engine::FinishReason::kError), v1::FINISH_REASON_UNSPECIFIED);
}

TEST(WireTest, AQueryIsReadWithItsControlOfGatesOrWithout) {
  v1::BackboneGenerateRequest request;
  ASSERT_OK_AND_ASSIGN(engine::EngineRequest query, QueryFromProto(request));
  EXPECT_EQ(query.moe, nullptr);
  request.mutable_moe()->set_active_experts(3);
  ASSERT_OK_AND_ASSIGN(query, QueryFromProto(request));
  ASSERT_NE(query.moe, nullptr);
  EXPECT_EQ(query.moe->all_layers.active_experts, 3);
  request.mutable_moe()->add_layers();
  request.mutable_moe()->add_layers();
  EXPECT_THAT(QueryFromProto(request).status(), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(WireTest, AQueryIsReadWithItsExpertOrWithout) {
  v1::BackboneGenerateRequest request;
  request.set_request_id("q");
  request.add_prompt(1);
  ASSERT_OK_AND_ASSIGN(engine::EngineRequest query, QueryFromProto(request));
  EXPECT_TRUE(query.expert.empty());
  request.mutable_expert()->set_name("math");
  ASSERT_OK_AND_ASSIGN(query, QueryFromProto(request));
  EXPECT_EQ(query.expert, (ExpertRef{"math", 0}));
  request.mutable_expert()->set_version(4);
  ASSERT_OK_AND_ASSIGN(query, QueryFromProto(request));
  EXPECT_EQ(ExpertFromProto(ExpertToProto(query.expert)), (ExpertRef{"math", 4}));
  request.mutable_expert()->set_name("ma th");
  EXPECT_THAT(QueryFromProto(request).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("ma th@4")));
}

}  // namespace
}  // namespace ccoe::services
