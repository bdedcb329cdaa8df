// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/families/deepseek.h"

#include <string>

#include "gmock/gmock.h"
#include "tests/runtime/model/families/minimal_config.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using kernels::GateForm;
using ::testing::HasSubstr;
using testing::StatusIs;

absl::StatusOr<ModelSpec> ParseLatent(const nlohmann::json& object) {
  return ParseLatentModel(ConfigReader(object));
}

absl::Status LatentWith(const char* key, const nlohmann::json& value) {
  nlohmann::json object = MinimalLatent();
  object[key] = value;
  return ParseLatent(object).status();
}

TEST(DeepseekConfigTest, AQueryRankIsANumberNoneWithNullAndTheDefaultWhereItIsAbsent) {
  nlohmann::json object = MinimalLatent();
  EXPECT_EQ(ParseLatent(object)->layers[0].attention.latent.q_rank, 0);
  object["q_lora_rank"] = 6;
  EXPECT_EQ(ParseLatent(object)->layers[0].attention.latent.q_rank, 6);
  object.erase("q_lora_rank");
  EXPECT_EQ(ParseLatent(object)->layers[0].attention.latent.q_rank, 1536);
}

TEST(DeepseekConfigTest, EveryOtherSizeOfLatentAttentionIsRequiredAndBounded) {
  for (const char* key : {"kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"}) {
    for (const nlohmann::json& value :
         {nlohmann::json(), nlohmann::json(0), nlohmann::json(INT64_MAX), nlohmann::json("8")}) {
      EXPECT_THAT(LatentWith(key, value),
                  StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(key)));
    }
  }
}

TEST(DeepseekConfigTest, ContradictionsAreNamed) {
  const auto bad = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(LatentWith("kv_lora_rank", 7), StatusIs(bad, HasSubstr("an even number")));
  EXPECT_THAT(LatentWith("qk_rope_head_dim", 3), StatusIs(bad, HasSubstr("an even number")));
  EXPECT_THAT(LatentWith("num_key_value_heads", 2),
              StatusIs(bad, HasSubstr("num_key_value_heads: expected num_attention_heads, 4")));
  EXPECT_THAT(LatentWith("mlp_bias", true),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("mlp_bias")));
}

TEST(DeepseekConfigTest, TheHeadsNeedNotDivideTheWidth) {
  EXPECT_OK(LatentWith("hidden_size", 33));
  EXPECT_OK(LatentWith("num_key_value_heads", 4));
}

TEST(DeepseekConfigTest, SharedExpertsMayBeNoneAndAreBounded) {
  nlohmann::json object = MinimalMoe("n_routed_experts");
  for (const nlohmann::json& none : {nlohmann::json(), nlohmann::json(0)}) {
    object["n_shared_experts"] = none;
    EXPECT_EQ(ParseDeepseekMoe(ConfigReader(object))->shared, SharedExpert::kNone);
  }
  object["n_shared_experts"] = 2;
  object["moe_intermediate_size"] = 1 << 20;
  EXPECT_THAT(ParseDeepseekMoe(ConfigReader(object)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("n_shared_experts: expected at most 1")));
}

TEST(DeepseekConfigTest, LayersWithExpertsStartLateAndMaySkip) {
  const auto layers = [](const std::string& text) {
    const nlohmann::json object = nlohmann::json::parse(text);
    ModelSpec spec;
    spec.layers.resize(6);
    EXPECT_OK(SetDeepseekLayers(ConfigReader(object), MoeSpec{}, spec));
    std::string kinds;
    for (const LayerSpec& layer : spec.layers) kinds += layer.ffn.is_moe() ? 'm' : 'd';
    return kinds;
  };
  EXPECT_EQ(layers("{}"), "mmmmmm");
  EXPECT_EQ(layers(R"({"first_k_dense_replace": 2})"), "ddmmmm");
  EXPECT_EQ(layers(R"({"first_k_dense_replace": 1, "moe_layer_freq": 2})"), "ddmdmd");
  EXPECT_EQ(layers(R"({"first_k_dense_replace": 6})"), "dddddd");
  const nlohmann::json beyond = {{"first_k_dense_replace", 7}};
  ModelSpec spec;
  spec.layers.resize(6);
  EXPECT_THAT(SetDeepseekLayers(ConfigReader(beyond), MoeSpec{}, spec),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("first_k_dense_replace")));
}

TEST(DeepseekTest, TheFirstLayersAreDenseAndSharedExpertsAreOneMlp) {
  nlohmann::json object = MinimalMoe("n_routed_experts");
  object["first_k_dense_replace"] = 1;
  object["n_shared_experts"] = 2;
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseDeepseek(ConfigReader(object)));
  EXPECT_OK(Validate(spec));
  EXPECT_FALSE(spec.layers[0].ffn.is_moe());
  EXPECT_EQ(spec.layers[0].ffn.intermediate, 64);
  for (size_t i = 1; i < 4; ++i) {
    const MoeSpec& moe = spec.layers[i].ffn.moe;
    EXPECT_TRUE(spec.layers[i].ffn.is_moe());
    EXPECT_EQ(moe.shared, SharedExpert::kPlain);
    EXPECT_EQ(moe.shared_intermediate, 32);
    EXPECT_FALSE(moe.gate.renormalize);
    EXPECT_EQ(moe.gate.scale, 1.0f);
  }
  EXPECT_FALSE(spec.layers[1].attention.is_latent());
  EXPECT_EQ(spec.names.shared_prefix, "mlp.shared_experts.");
}

TEST(DeepseekTest, OneChosenExpertIsNotRenormalised) {
  nlohmann::json object = MinimalMoe("n_routed_experts");
  object["norm_topk_prob"] = true;
  EXPECT_TRUE(ParseDeepseek(ConfigReader(object))->layers[0].ffn.moe.gate.renormalize);
  object["num_experts_per_tok"] = 1;
  EXPECT_FALSE(ParseDeepseek(ConfigReader(object))->layers[0].ffn.moe.gate.renormalize);
}

TEST(DeepseekTest, BiasesAreReadAndOtherScoresRefused) {
  nlohmann::json object = MinimalMoe("n_routed_experts");
  object["attention_bias"] = true;
  EXPECT_TRUE(ParseDeepseek(ConfigReader(object))->layers[0].attention.output_bias);
  EXPECT_THAT(ParseWith(ParseDeepseek, object, "scoring_func", "sigmoid"),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("scoring_func")));
}

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
