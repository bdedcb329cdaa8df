#include "gmock/gmock.h"
#include "runtime/model/families/families.h"
#include "tests/runtime/model/families/minimal_config.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using kernels::GateForm;
using ::testing::HasSubstr;
using testing::StatusIs;

const GateForm& Gate(const ModelSpec& spec) { return spec.layers.back().ffn.moe.gate; }

TEST(DeepseekV2Test, AttentionIsLatentAndRotatesInterleaved) {
  const nlohmann::json object = MinimalLatent();
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseDeepseekV2(ConfigReader(object)));
  EXPECT_OK(Validate(spec));
  EXPECT_EQ(spec.rope.style, kernels::RopeStyle::kInterleaved);
  const AttentionSpec& attention = spec.layers[3].attention;
  EXPECT_EQ(attention.heads, 4);
  EXPECT_EQ(attention.kv_heads, 1);
  EXPECT_EQ(attention.head_dim, 12);
  EXPECT_EQ(attention.latent.q_rank, 0);
  EXPECT_EQ(attention.latent.value_dim, 10);
  EXPECT_EQ(attention.scale, 0.25f);
}

TEST(DeepseekV2Test, WeightsAreScaledOrRenormalisedNeverBoth) {
  nlohmann::json object = MinimalLatent();
  object["routed_scaling_factor"] = 16.0;
  EXPECT_EQ(Gate(*ParseDeepseekV2(ConfigReader(object))).scale, 16.0f);
  object["norm_topk_prob"] = true;
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseDeepseekV2(ConfigReader(object)));
  EXPECT_TRUE(Gate(spec).renormalize);
  EXPECT_EQ(Gate(spec).scale, 1.0f);
}

TEST(DeepseekV2Test, GroupsCountOnlyWithTheirMethodAndByTheirBestExpert) {
  nlohmann::json object = MinimalLatent();
  object["n_group"] = 4;
  object["topk_group"] = 2;
  EXPECT_EQ(Gate(*ParseDeepseekV2(ConfigReader(object))).groups, 1);
  object["topk_method"] = "group_limited_greedy";
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseDeepseekV2(ConfigReader(object)));
  EXPECT_OK(Validate(spec));
  EXPECT_EQ(Gate(spec).groups, 4);
  EXPECT_EQ(Gate(spec).top_groups, 2);
  EXPECT_EQ(Gate(spec).group_score, kernels::GroupScore::kMax);
  EXPECT_FALSE(spec.layers[3].ffn.moe.correction_bias);
}

TEST(DeepseekV2Test, WhatIsNotSupportedIsNamed) {
  const auto missing = absl::StatusCode::kUnimplemented;
  const nlohmann::json object = MinimalLatent();
  EXPECT_THAT(ParseWith(ParseDeepseekV2, object, "topk_method", "noaux_tc"),
              StatusIs(missing, HasSubstr("topk_method")));
  EXPECT_THAT(ParseWith(ParseDeepseekV2, object, "scoring_func", "sigmoid"),
              StatusIs(missing, HasSubstr("scoring_func")));
  EXPECT_THAT(ParseWith(ParseDeepseekV2, object, "attention_bias", true),
              StatusIs(missing, HasSubstr("attention_bias")));
}

// The keys of DeepSeek-V2-Lite that decide about positions.
TEST(DeepseekV2Test, YarnMovesItsMagnitudeIntoTheScaleOfAttention) {
  nlohmann::json object = MinimalLatent();
  object["qk_nope_head_dim"] = 128;
  object["qk_rope_head_dim"] = 64;
  object["max_position_embeddings"] = 163840;
  object["rope_scaling"] = {
      {"type", "yarn"},         {"factor", 40},   {"original_max_position_embeddings", 4096},
      {"beta_fast", 32},        {"beta_slow", 1}, {"mscale", 0.707},
      {"mscale_all_dim", 0.707}};
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseDeepseekV2(ConfigReader(object)));
  EXPECT_EQ(spec.rope.attention_factor, 1.0);
  EXPECT_FLOAT_EQ(spec.layers[0].attention.scale, 0.11472138679f);
  object["rope_scaling"].erase("mscale_all_dim");
  ASSERT_OK_AND_ASSIGN(const ModelSpec plain, ParseDeepseekV2(ConfigReader(object)));
  EXPECT_FLOAT_EQ(plain.layers[0].attention.scale, 0.07216878365f);
}

}  // namespace
}  // namespace ccoe::model
