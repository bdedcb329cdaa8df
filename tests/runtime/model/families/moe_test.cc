#include "runtime/model/families/moe.h"

#include <string>

#include "gmock/gmock.h"
#include "runtime/model/families/families.h"
#include "tests/runtime/model/families/minimal_config.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

absl::StatusOr<MoeSpec> Parse(const nlohmann::json& object) {
  return ParseMoe(ConfigReader(object), "num_experts", "moe_intermediate_size");
}

TEST(MoeConfigTest, AnyOfTheThreeKeysNamesTheNumberOfExperts) {
  for (const char* key : {"num_experts", "num_local_experts", "n_routed_experts"}) {
    ASSERT_OK_AND_ASSIGN(const MoeSpec moe, Parse(MinimalMoe(key)));
    EXPECT_EQ(moe.experts, 8) << key;
    EXPECT_EQ(moe.intermediate, 16);
    EXPECT_EQ(moe.gate.top_k, 2);
  }
  nlohmann::json both = MinimalMoe("num_experts");
  both["n_routed_experts"] = 8;
  EXPECT_OK(Parse(both));
  both["n_routed_experts"] = 7;
  EXPECT_THAT(Parse(both), StatusIs(absl::StatusCode::kInvalidArgument,
                                    AllOf(HasSubstr("key n_routed_experts"),
                                          HasSubstr("the key num_experts says, 8, found 7"))));
}

TEST(MoeConfigTest, EverySizeIsRequiredAndBounded) {
  for (const char* key : {"num_experts", "num_experts_per_tok", "moe_intermediate_size"}) {
    for (const nlohmann::json& value :
         {nlohmann::json(), nlohmann::json(0), nlohmann::json(-1), nlohmann::json(INT64_MAX),
          nlohmann::json("2"), nlohmann::json(2.0)}) {
      nlohmann::json object = MinimalMoe("num_experts");
      object[key] = value;
      EXPECT_THAT(Parse(object), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(key)))
          << value;
    }
  }
}

TEST(MoeConfigTest, MoreChosenExpertsThanThereAreIsAnErrorThatNamesBothKeys) {
  nlohmann::json object = MinimalMoe("n_routed_experts");
  object["num_experts_per_tok"] = 9;
  EXPECT_THAT(Parse(object),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("num_experts_per_tok: expected at most n_routed_experts, 8")));
}

class SparseLayersTest : public ::testing::Test {
 protected:
  // "d" for a dense layer, "m" for one with experts.
  absl::StatusOr<std::string> Layers(const std::string& text) {
    const nlohmann::json object = nlohmann::json::parse(text);
    ModelSpec spec;
    spec.layers.resize(6);
    const absl::Status status = SetSparseLayers(ConfigReader(object), MoeSpec{}, spec);
    if (!status.ok()) return status;
    std::string kinds;
    for (const LayerSpec& layer : spec.layers) kinds += layer.ffn.is_moe() ? 'm' : 'd';
    return kinds;
  }
};

TEST_F(SparseLayersTest, StepAndListDecide) {
  EXPECT_EQ(*Layers("{}"), "mmmmmm");
  EXPECT_EQ(*Layers(R"({"mlp_only_layers": null})"), "mmmmmm");
  EXPECT_EQ(*Layers(R"({"decoder_sparse_step": 2})"), "dmdmdm");
  EXPECT_EQ(*Layers(R"({"mlp_only_layers": [0, 5, 5]})"), "dmmmmd");
  EXPECT_EQ(*Layers(R"({"decoder_sparse_step": 3, "mlp_only_layers": [2]})"), "dddddm");
  EXPECT_EQ(*Layers(R"({"decoder_sparse_step": 7})"), "dddddd");
}

TEST_F(SparseLayersTest, WhatDoesNotFitIsNamed) {
  const auto bad = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(Layers(R"({"decoder_sparse_step": 0})"),
              StatusIs(bad, HasSubstr("decoder_sparse_step")));
  EXPECT_THAT(Layers(R"({"mlp_only_layers": [6]})"), StatusIs(bad, HasSubstr("0 to 5")));
  EXPECT_THAT(Layers(R"({"mlp_only_layers": 3})"), StatusIs(bad, HasSubstr("mlp_only_layers")));
}

constexpr char kKey[] = "num_local_experts";

TEST(MixtralTest, EveryLayerHasExpertsChosenBySoftmaxAndRenormalised) {
  const nlohmann::json object = MinimalMoe(kKey);
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseMixtral(ConfigReader(object)));
  EXPECT_OK(Validate(spec));
  for (const LayerSpec& layer : spec.layers) {
    ASSERT_TRUE(layer.ffn.is_moe());
    EXPECT_EQ(layer.ffn.activation, kernels::Activation::kSilu);
    EXPECT_EQ(layer.ffn.moe.experts, 8);
    EXPECT_EQ(layer.ffn.moe.intermediate, 64);
    EXPECT_EQ(layer.ffn.moe.gate.top_k, 2);
    EXPECT_EQ(layer.ffn.moe.gate.score, kernels::RouterScore::kSoftmax);
    EXPECT_TRUE(layer.ffn.moe.gate.renormalize);
    EXPECT_EQ(layer.ffn.moe.gate.scale, 1.0f);
    EXPECT_EQ(layer.ffn.moe.shared, SharedExpert::kNone);
    EXPECT_EQ(layer.attention.sliding_window, 0);
  }
  EXPECT_EQ(spec.rope.theta, 1e6);
  EXPECT_FLOAT_EQ(spec.norm_eps, 1e-5f);
  EXPECT_EQ(spec.names.router, "block_sparse_moe.gate");
  EXPECT_EQ(spec.names.expert_prefix, "block_sparse_moe.experts.");
  EXPECT_EQ(spec.names.expert_gate + spec.names.expert_up + spec.names.expert_down, "w1w3w2");
}

TEST(MixtralTest, TheWindowIsANumberOrNone) {
  nlohmann::json object = MinimalMoe(kKey);
  object["sliding_window"] = nullptr;
  EXPECT_EQ(ParseMixtral(ConfigReader(object))->layers[3].attention.sliding_window, 0);
  object["sliding_window"] = 12;
  EXPECT_EQ(ParseMixtral(ConfigReader(object))->layers[3].attention.sliding_window, 12);
  EXPECT_THAT(ParseWith(ParseMixtral, object, "sliding_window", 0),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("sliding_window")));
}

TEST(MixtralTest, ContradictionsAndQuantizationAreNamed) {
  const auto bad = absl::StatusCode::kInvalidArgument;
  const nlohmann::json object = MinimalMoe(kKey);
  EXPECT_THAT(ParseWith(ParseMixtral, object, "num_experts_per_tok", 9),
              StatusIs(bad, HasSubstr("key num_experts_per_tok: expected at most "
                                      "num_local_experts, 8, found 9")));
  EXPECT_THAT(ParseWith(ParseMixtral, object, "num_local_experts", nullptr),
              StatusIs(bad, AllOf(HasSubstr("num_local_experts"), HasSubstr("nothing"))));
  EXPECT_THAT(ParseWith(ParseMixtral, object, "quantization_config", {{"bits", 4}}),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("quantization_config")));
}

TEST(OlmoeTest, QueriesAndKeysAreNormedWholeAndWeightsNotRenormalised) {
  const nlohmann::json object = MinimalMoe("num_experts");
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseOlmoe(ConfigReader(object)));
  EXPECT_OK(Validate(spec));
  EXPECT_FLOAT_EQ(spec.norm_eps, 1e-5f);
  for (const LayerSpec& layer : spec.layers) {
    EXPECT_EQ(layer.attention.qk_norm, QkNorm::kWholeProjection);
    EXPECT_EQ(layer.attention.clip_qkv, 0.0f);
    EXPECT_FALSE(layer.attention.qkv_bias);
    EXPECT_EQ(layer.ffn.moe.intermediate, 64);
    EXPECT_FALSE(layer.ffn.moe.gate.renormalize);
  }
}

TEST(OlmoeTest, ClipsNormalisesAndHasBiasesWhereTheConfigSaysSo) {
  nlohmann::json object = MinimalMoe("num_experts");
  object["clip_qkv"] = 8;
  object["norm_topk_prob"] = true;
  object["attention_bias"] = true;
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseOlmoe(ConfigReader(object)));
  EXPECT_EQ(spec.layers[3].attention.clip_qkv, 8.0f);
  EXPECT_TRUE(spec.layers[3].attention.qkv_bias);
  EXPECT_TRUE(spec.layers[3].attention.output_bias);
  EXPECT_TRUE(spec.layers[3].ffn.moe.gate.renormalize);
  EXPECT_THAT(ParseWith(ParseOlmoe, object, "clip_qkv", -1),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("clip_qkv")));
}

TEST(Qwen2MoeTest, AGatedSharedExpertStandsBesideTheOthers) {
  nlohmann::json object = MinimalMoe("num_experts");
  object["shared_expert_intermediate_size"] = 24;
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseQwen2Moe(ConfigReader(object)));
  EXPECT_OK(Validate(spec));
  for (const LayerSpec& layer : spec.layers) {
    EXPECT_TRUE(layer.attention.qkv_bias);
    EXPECT_FALSE(layer.attention.output_bias);
    EXPECT_EQ(layer.ffn.moe.shared, SharedExpert::kSigmoidGated);
    EXPECT_EQ(layer.ffn.moe.shared_intermediate, 24);
    EXPECT_EQ(layer.ffn.moe.intermediate, 16);
    EXPECT_FALSE(layer.ffn.moe.gate.renormalize);
  }
  EXPECT_EQ(spec.names.shared_prefix, "mlp.shared_expert.");
  EXPECT_EQ(spec.names.shared_gate, "mlp.shared_expert_gate");
  object["shared_expert_intermediate_size"] = 0;
  object["qkv_bias"] = false;
  ASSERT_OK_AND_ASSIGN(const ModelSpec plain, ParseQwen2Moe(ConfigReader(object)));
  EXPECT_EQ(plain.layers[0].ffn.moe.shared, SharedExpert::kNone);
  EXPECT_FALSE(plain.layers[0].attention.qkv_bias);
}

TEST(Qwen2MoeTest, SomeLayersStayDense) {
  nlohmann::json object = MinimalMoe("num_experts");
  object["decoder_sparse_step"] = 2;
  object["mlp_only_layers"] = {3};
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseQwen2Moe(ConfigReader(object)));
  EXPECT_OK(Validate(spec));
  EXPECT_FALSE(spec.layers[0].ffn.is_moe());
  EXPECT_EQ(spec.layers[0].ffn.intermediate, 64);
  EXPECT_TRUE(spec.layers[1].ffn.is_moe());
  EXPECT_FALSE(spec.layers[2].ffn.is_moe());
  EXPECT_FALSE(spec.layers[3].ffn.is_moe());
}

TEST(Qwen2MoeTest, AWindowNeedsTheListOfLayers) {
  nlohmann::json object = MinimalMoe("num_experts");
  object["sliding_window"] = 8;
  object["max_window_layers"] = 2;
  EXPECT_EQ(ParseQwen2Moe(ConfigReader(object))->layers[3].attention.sliding_window, 0);
  object["use_sliding_window"] = true;
  EXPECT_THAT(ParseQwen2Moe(ConfigReader(object)),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("layer_types")));
  object["layer_types"] = {"full_attention", "sliding_attention", "full_attention",
                           "full_attention"};
  EXPECT_EQ(ParseQwen2Moe(ConfigReader(object))->layers[1].attention.sliding_window, 8);
  EXPECT_EQ(ParseQwen2Moe(ConfigReader(object))->layers[2].attention.sliding_window, 0);
}

TEST(Qwen3MoeTest, HeadsAreNormedAndNothingIsShared) {
  nlohmann::json object = MinimalMoe("num_experts");
  ASSERT_OK_AND_ASSIGN(const ModelSpec plain, ParseQwen3Moe(ConfigReader(object)));
  EXPECT_FALSE(plain.layers[0].ffn.moe.gate.renormalize);
  object["norm_topk_prob"] = true;
  object["head_dim"] = 16;
  object["attention_bias"] = true;
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseQwen3Moe(ConfigReader(object)));
  EXPECT_OK(Validate(spec));
  for (const LayerSpec& layer : spec.layers) {
    EXPECT_EQ(layer.attention.qk_norm, QkNorm::kPerHead);
    EXPECT_EQ(layer.attention.head_dim, 16);
    EXPECT_TRUE(layer.attention.qkv_bias);
    EXPECT_TRUE(layer.attention.output_bias);
    EXPECT_TRUE(layer.ffn.moe.gate.renormalize);
    EXPECT_EQ(layer.ffn.moe.shared, SharedExpert::kNone);
  }
}

TEST(Qwen3MoeTest, BothNamesOfTheNumberOfExpertsAreReadAndMustAgree) {
  nlohmann::json object = MinimalMoe("num_local_experts");
  EXPECT_EQ(ParseQwen3Moe(ConfigReader(object))->layers[0].ffn.moe.experts, 8);
  object["num_experts"] = 9;
  EXPECT_THAT(ParseQwen3Moe(ConfigReader(object)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("key num_experts: expected what the key num_local_experts says, "
                                 "8, found 9")));
}

TEST(Qwen3MoeTest, AWindowThatIsUsedHoldsInAllLayers) {
  nlohmann::json object = MinimalMoe("num_experts");
  object["sliding_window"] = 8;
  EXPECT_EQ(ParseQwen3Moe(ConfigReader(object))->layers[0].attention.sliding_window, 0);
  object["use_sliding_window"] = true;
  EXPECT_EQ(ParseQwen3Moe(ConfigReader(object))->layers[0].attention.sliding_window, 8);
  EXPECT_EQ(ParseQwen3Moe(ConfigReader(object))->layers[3].attention.sliding_window, 8);
  EXPECT_THAT(ParseWith(ParseQwen3Moe, object, "sliding_window", nullptr),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("sliding_window")));
}

}  // namespace
}  // namespace ccoe::model
