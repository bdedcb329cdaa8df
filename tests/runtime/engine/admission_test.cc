#include "runtime/engine/admission.h"

#include <memory>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/fake_link.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::engine {
namespace {

using ::ccoe::testing::FakeLink;
using ::ccoe::testing::IsOk;
using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

AdmissionLimits Limits() {
  AdmissionLimits limits;
  limits.vocab_size = 100;
  limits.context_tokens = 64;
  limits.kv_tokens = 1000;
  limits.layer_count = 8;
  limits.held_layers = {0, 8};
  return limits;
}

EngineRequest Query(int64_t tokens, int64_t max_tokens = 10) {
  EngineRequest query;
  query.prompt.assign(tokens, 7);
  query.sampling.max_tokens = max_tokens;
  return query;
}

TEST(AdmissionTest, MaxTokensAreCutToTheContext) {
  ASSERT_OK_AND_ASSIGN(int64_t max_tokens, TokensToGenerate(Query(50), nullptr, Limits()));
  EXPECT_EQ(max_tokens, 10);
  ASSERT_OK_AND_ASSIGN(max_tokens, TokensToGenerate(Query(50, 1000), nullptr, Limits()));
  EXPECT_EQ(max_tokens, 14);
  ASSERT_OK_AND_ASSIGN(max_tokens, TokensToGenerate(Query(63, 1000), nullptr, Limits()));
  EXPECT_EQ(max_tokens, 1);
}

TEST(AdmissionTest, MaxTokensAreCutToTheKvCapacity) {
  AdmissionLimits limits = Limits();
  limits.kv_tokens = 20;
  ASSERT_OK_AND_ASSIGN(const int64_t max_tokens,
                       TokensToGenerate(Query(18, 1000), nullptr, limits));
  EXPECT_EQ(max_tokens, 3);  // the last token needs no KV
}

TEST(AdmissionTest, AnExpertsOwnKvCacheBoundsItsQueriesAlone) {
  ExpertBinding binding;
  binding.expert = {"math", 1};
  binding.worker_id = "expert-3";
  binding.kv_tokens = 20;
  ASSERT_OK_AND_ASSIGN(const int64_t max_tokens,
                       TokensToGenerate(Query(18, 1000), &binding, Limits()));
  EXPECT_EQ(max_tokens, 3);
  EXPECT_THAT(TokensToGenerate(Query(21), &binding, Limits()),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("21 tokens"), HasSubstr("20 tokens"), HasSubstr("math@1"),
                             HasSubstr("expert-3"))));
  EXPECT_THAT(TokensToGenerate(Query(21), nullptr, Limits()), IsOk());
  binding.kv_tokens = 0;  // not known
  EXPECT_THAT(TokensToGenerate(Query(21), &binding, Limits()), IsOk());
}

TEST(AdmissionTest, PromptsThatDoNotFitAreRefusedWithLimitAndFound) {
  EXPECT_THAT(CheckQuery(Query(0), Limits()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found none")));
  EXPECT_THAT(CheckQuery(Query(64), Limits()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("at most 63"), HasSubstr("found 64"))));
  AdmissionLimits limits = Limits();
  limits.kv_tokens = 20;
  EXPECT_THAT(CheckQuery(Query(21), limits),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("20 tokens")));
}

TEST(AdmissionTest, IdsOutsideTheVocabularyAreRefused) {
  EngineRequest query = Query(3);
  query.prompt[1] = 100;
  EXPECT_THAT(CheckQuery(query, Limits()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("token 1"), HasSubstr("found 100"))));
  query.prompt[1] = -1;
  EXPECT_THAT(CheckQuery(query, Limits()), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(AdmissionTest, SamplingIsChecked) {
  EngineRequest query = Query(3);
  query.sampling.top_p = 2.0f;
  EXPECT_THAT(CheckQuery(query, Limits()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("top_p")));
}

TEST(AdmissionTest, ScoringAloneMayGenerateNothingAndFillTheContext) {
  EngineRequest query = Query(64, 0);
  EXPECT_THAT(CheckQuery(query, Limits()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_tokens")));
  query.prompt_logits = true;
  ASSERT_OK_AND_ASSIGN(const int64_t max_tokens, TokensToGenerate(query, nullptr, Limits()));
  EXPECT_EQ(max_tokens, 0);
}

TEST(AdmissionTest, LayersTheBackboneLacksAreNamed) {
  AdmissionLimits limits = Limits();
  EXPECT_THAT(CheckLayers(nullptr, limits), IsOk());
  limits.held_layers = {0, 6};
  EXPECT_THAT(CheckLayers(nullptr, limits),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("without expert"), HasSubstr("[0, 6) of 8"))));
  ExpertBinding binding;
  binding.link = std::make_shared<FakeLink>();
  binding.layers = {6, 8};
  EXPECT_THAT(CheckLayers(&binding, limits), IsOk());
  binding.layers = {4, 8};
  EXPECT_THAT(CheckLayers(&binding, limits), IsOk());
  binding.layers = {7, 8};
  EXPECT_THAT(CheckLayers(&binding, limits),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("[0, 7)")));
  binding.layers = {2, 5};
  EXPECT_THAT(CheckLayers(&binding, limits),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("[5, 8)")));
}

TEST(AdmissionTest, ABindingThatMakesNoSenseIsOurOwnFault) {
  ExpertBinding binding;
  binding.layers = {4, 9};
  binding.link = std::make_shared<FakeLink>();
  EXPECT_THAT(CheckLayers(&binding, Limits()), StatusIs(absl::StatusCode::kInternal));
  binding.layers = {4, 8};
  binding.link = nullptr;  // no worker has it now
  EXPECT_OK(CheckLayers(&binding, Limits()));
}

TEST(AdmissionTest, ControlOfGatesIsChecked) {
  auto spec = std::make_shared<model::ModelSpec>();
  spec->layers.resize(8);
  spec->layers[5].ffn.kind = model::FfnKind::kMoe;
  spec->layers[5].ffn.moe.experts = 4;
  spec->layers[5].ffn.moe.gate.top_k = 2;
  AdmissionLimits limits = Limits();
  limits.spec = spec;
  auto control = std::make_shared<MoeControl>();
  control->layers[5].masked = {1};
  EngineRequest query = Query(3);
  query.moe = control;
  EXPECT_THAT(CheckQuery(query, limits), StatusIs(absl::StatusCode::kPermissionDenied));
  limits.moe_policy.allow_masks = true;
  EXPECT_THAT(CheckQuery(query, limits), IsOk());
  control->layers[5].masked = {4};
  EXPECT_THAT(CheckQuery(query, limits),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layer 5")));
  limits.spec = nullptr;
  EXPECT_THAT(CheckQuery(query, limits),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("one without")));
}

TEST(AdmissionTest, GatesOfLayersThatAnExpertReplacesAreNotTheModels) {
  ExpertBinding binding;
  binding.expert = {"math", 2};
  binding.layers = {4, 6};
  MoeControl control;
  control.all_layers.active_experts = 1;
  control.layers[3].active_experts = 1;
  control.layers[6].active_experts = 1;
  EXPECT_THAT(CheckMoeLayers(&control, &binding), IsOk());
  control.layers[5].active_experts = 1;
  EXPECT_THAT(CheckMoeLayers(&control, &binding),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("layer 5"), HasSubstr("math@2"), HasSubstr("[4, 6)"))));
  EXPECT_THAT(CheckMoeLayers(&control, nullptr), IsOk());
  EXPECT_THAT(CheckMoeLayers(nullptr, &binding), IsOk());
}

TEST(AdmissionTest, StopIdsAreTheQuerysAndTheModels) {
  SamplingParams sampling;
  sampling.stop_token_ids = {9, 2};
  EXPECT_THAT(StopIds(sampling, {2, 3}), ElementsAre(2, 3, 9));
  sampling.ignore_eos = true;
  EXPECT_THAT(StopIds(sampling, {2, 3}), ElementsAre(2, 9));
}

}  // namespace
}  // namespace ccoe::engine
