// SPDX-License-Identifier: Apache-2.0
#include "services/backbone/proto_conversions.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

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

TEST(MoeWireTest, ControlGoesThereAndBack) {
  v1::MoeControl proto;
  proto.set_active_experts(4);
  proto.add_masked_experts(7);
  proto.add_forced_experts(8);
  v1::LayerMoeControl* layer = proto.add_layers();
  layer->set_layer(3);
  layer->set_active_experts(2);
  layer->add_masked_experts(5);
  layer->add_masked_experts(6);
  ASSERT_OK_AND_ASSIGN(const auto control, MoeControlFromProto(proto));
  ASSERT_NE(control, nullptr);
  EXPECT_EQ(control->all_layers.active_experts, 4);
  EXPECT_THAT(control->all_layers.masked, ElementsAre(7));
  EXPECT_THAT(control->all_layers.forced, ElementsAre(8));
  ASSERT_THAT(control->layers, SizeIs(1));
  EXPECT_EQ(control->layers.at(3).active_experts, 2);
  EXPECT_THAT(control->layers.at(3).masked, ElementsAre(5, 6));
  EXPECT_THAT(control->layers.at(3).forced, IsEmpty());
  EXPECT_EQ(MoeControlToProto(*control).SerializeAsString(), proto.SerializeAsString());
}

TEST(MoeWireTest, AMessageThatAsksForNothingIsNoControl) {
  ASSERT_OK_AND_ASSIGN(const auto none, MoeControlFromProto(v1::MoeControl()));
  EXPECT_EQ(none, nullptr);
  v1::MoeControl empty_layer;
  empty_layer.add_layers()->set_layer(3);
  ASSERT_OK_AND_ASSIGN(const auto still_none, MoeControlFromProto(empty_layer));
  EXPECT_EQ(still_none, nullptr);
}

TEST(MoeWireTest, ALayerThatStandsThereTwiceIsRefused) {
  v1::MoeControl proto;
  for (int i = 0; i < 2; ++i) {
    proto.add_layers()->set_layer(3);
    proto.mutable_layers(i)->set_active_experts(1 + i);
  }
  EXPECT_THAT(MoeControlFromProto(proto),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layer 3")));
}

engine::MoeSnapshot Snapshot() {
  engine::MoeSnapshot snapshot;
  snapshot.layers = {{1, 10, {5, 6, 9}, {1, 2, 3}}, {2, 4, {1, 2}, {1}}};
  return snapshot;
}

TEST(MoeWireTest, StatisticsGoThereAndBack) {
  v1::GetMoeStatisticsRequest request;
  request.set_co_activation(true);
  const v1::MoeStatistics proto = MoeSnapshotToProto(Snapshot(), request);
  ASSERT_OK_AND_ASSIGN(const engine::MoeSnapshot back, MoeSnapshotFromProto(proto));
  ASSERT_THAT(back.layers, SizeIs(2));
  EXPECT_EQ(back.layers[0].layer, 1);
  EXPECT_EQ(back.layers[0].rows, 10u);
  EXPECT_THAT(back.layers[0].tokens, ElementsAre(5, 6, 9));
  EXPECT_THAT(back.layers[0].pairs, ElementsAre(1, 2, 3));
}

TEST(MoeWireTest, OnlyWhatIsAskedForTravels) {
  v1::GetMoeStatisticsRequest request;
  request.set_layer(2);
  const v1::MoeStatistics proto = MoeSnapshotToProto(Snapshot(), request);
  ASSERT_EQ(proto.layers_size(), 1);
  EXPECT_EQ(proto.layers(0).layer(), 2);
  EXPECT_EQ(proto.layers(0).co_activation_size(), 0);
}

TEST(MoeWireTest, StatisticsThatContradictThemselvesAreRefused) {
  const auto refused = [](void (*change)(v1::MoeStatistics&), const char* what) {
    v1::GetMoeStatisticsRequest request;
    request.set_co_activation(true);
    v1::MoeStatistics proto = MoeSnapshotToProto(Snapshot(), request);
    change(proto);
    EXPECT_THAT(
        MoeSnapshotFromProto(proto),
        StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("layer 1"), HasSubstr(what))));
  };
  refused([](auto& p) { p.mutable_layers(0)->add_co_activation(4); }, "3 pairs of 3 experts");
  refused([](auto& p) { p.mutable_layers(0)->set_tokens(1, 11); }, "expert 1, found 11");
  refused([](auto& p) { p.mutable_layers(1)->set_layer(1); }, "after layer 1");
}

}  // namespace
}  // namespace ccoe::services
