#include "gmock/gmock.h"
#include "runtime/model/families/families.h"
#include "tests/runtime/model/families/minimal_config.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

const MoeSpec& Moe(const ModelSpec& spec) { return spec.layers.back().ffn.moe; }

TEST(DeepseekV3Test, ScoresAreSigmoidsCorrectedForChoosingAndGroupedByTheirTwoBest) {
  nlohmann::json object = MinimalLatent();
  object["n_group"] = 4;
  object["topk_group"] = 2;
  object["n_shared_experts"] = 1;
  object["first_k_dense_replace"] = 3;
  object["q_lora_rank"] = 24;
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseDeepseekV3(ConfigReader(object)));
  EXPECT_OK(Validate(spec));
  EXPECT_FALSE(spec.layers[2].ffn.is_moe());
  EXPECT_EQ(spec.layers[2].attention.latent.q_rank, 24);
  EXPECT_TRUE(Moe(spec).correction_bias);
  EXPECT_EQ(Moe(spec).shared_intermediate, 16);
  const kernels::GateForm& gate = Moe(spec).gate;
  EXPECT_EQ(gate.score, kernels::RouterScore::kSigmoid);
  EXPECT_EQ(gate.group_score, kernels::GroupScore::kTopTwoSum);
  EXPECT_EQ(gate.groups, 4);
  EXPECT_EQ(gate.top_groups, 2);
  EXPECT_TRUE(gate.renormalize);
  EXPECT_EQ(gate.scale, 2.5f);
}

TEST(DeepseekV3Test, TheRotatedPartsLieInterleavedUnlessTheConfigSaysOtherwise) {
  nlohmann::json object = MinimalLatent();
  EXPECT_EQ(ParseDeepseekV3(ConfigReader(object))->rope.style, kernels::RopeStyle::kInterleaved);
  object["rope_interleave"] = false;
  EXPECT_EQ(ParseDeepseekV3(ConfigReader(object))->rope.style, kernels::RopeStyle::kHalfSplit);
}

TEST(DeepseekV3Test, OtherFormsOfRoutingAreRefused) {
  const auto missing = absl::StatusCode::kUnimplemented;
  const nlohmann::json object = MinimalLatent();
  EXPECT_THAT(ParseWith(ParseDeepseekV3, object, "topk_method", "greedy"),
              StatusIs(missing, HasSubstr("topk_method")));
  EXPECT_THAT(ParseWith(ParseDeepseekV3, object, "scoring_func", "softmax"),
              StatusIs(missing, HasSubstr("scoring_func")));
  EXPECT_THAT(ParseWith(ParseDeepseekV3, object, "quantization_config", {{"fmt", "e4m3"}}),
              StatusIs(missing, HasSubstr("quantization_config")));
}

TEST(DeepseekV3Test, GroupsThatDoNotFitAreNamed) {
  const auto bad = absl::StatusCode::kInvalidArgument;
  const nlohmann::json object = MinimalLatent();
  EXPECT_THAT(ParseWith(ParseDeepseekV3, object, "n_group", 3),
              StatusIs(bad, HasSubstr("n_group")));
  EXPECT_THAT(ParseWith(ParseDeepseekV3, object, "n_group", 8),
              StatusIs(bad, HasSubstr("key n_group: expected at most 4")));
  EXPECT_THAT(ParseWith(ParseDeepseekV3, object, "n_group", nullptr),
              StatusIs(bad, HasSubstr("n_group")));
  EXPECT_THAT(ParseWith(ParseDeepseekV3, object, "topk_group", 2),
              StatusIs(bad, HasSubstr("topk_group")));
  nlohmann::json narrow = object;
  narrow["n_group"] = 4;
  EXPECT_THAT(ParseWith(ParseDeepseekV3, narrow, "num_experts_per_tok", 3),
              StatusIs(bad, HasSubstr("at most the 2 experts of topk_group groups")));
}

}  // namespace
}  // namespace ccoe::model
