// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/families/dense.h"

#include <cmath>
#include <string>

#include "gmock/gmock.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

absl::StatusOr<RopeSpec> Parse(const std::string& text) {
  const nlohmann::json object = nlohmann::json::parse(text);
  return ParseRope(ConfigReader(object), 500.0);
}

TEST(RopeConfigTest, NothingMeansTheFamilysThetaWithoutScaling) {
  for (const char* text :
       {"{}", R"({"rope_scaling": null})", R"({"rope_scaling": {"rope_type": "default"}})",
        R"({"rope_parameters": {"rope_type": "default"}})"}) {
    ASSERT_OK_AND_ASSIGN(const RopeSpec rope, Parse(text));
    EXPECT_EQ(rope.theta, 500.0) << text;
    EXPECT_EQ(rope.scaling, RopeScaling::kNone) << text;
  }
}

TEST(RopeConfigTest, LinearInBothSpellingsAndBothStyles) {
  for (const char* text :
       {R"({"rope_theta": 9, "rope_scaling": {"type": "linear", "factor": 2.5}})",
        R"({"rope_theta": 9, "rope_scaling": {"rope_type": "linear", "factor": 2.5}})",
        R"({"rope_parameters": {"rope_theta": 9.0, "rope_type": "linear", "factor": 2.5}})"}) {
    ASSERT_OK_AND_ASSIGN(const RopeSpec rope, Parse(text));
    EXPECT_EQ(rope.theta, 9.0) << text;
    EXPECT_EQ(rope.scaling, RopeScaling::kLinear) << text;
    EXPECT_EQ(rope.factor, 2.5) << text;
  }
}

TEST(RopeConfigTest, Llama3ReadsAllItsParameters) {
  ASSERT_OK_AND_ASSIGN(
      const RopeSpec rope,
      Parse(R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
                                 "high_freq_factor": 4, "original_max_position_embeddings": 8192}})"));
  EXPECT_EQ(rope.scaling, RopeScaling::kLlama3);
  EXPECT_EQ(rope.factor, 8.0);
  EXPECT_EQ(rope.low_freq_factor, 1.0);
  EXPECT_EQ(rope.high_freq_factor, 4.0);
  EXPECT_EQ(rope.original_max_positions, 8192);
}

TEST(RopeConfigTest, YarnTakesTheDefaultsOfItsPaper) {
  for (const char* text :
       {R"({"max_position_embeddings": 128, "rope_scaling": {"type": "yarn", "factor": 4}})",
        R"({"rope_parameters": {"rope_type": "yarn", "factor": 4,
                                "original_max_position_embeddings": 128}})"}) {
    ASSERT_OK_AND_ASSIGN(const RopeSpec rope, Parse(text));
    EXPECT_EQ(rope.scaling, RopeScaling::kYarn);
    EXPECT_EQ(rope.factor, 4.0);
    EXPECT_EQ(rope.original_max_positions, 128);
    EXPECT_EQ(rope.beta_fast, 32.0);
    EXPECT_EQ(rope.beta_slow, 1.0);
    EXPECT_DOUBLE_EQ(rope.attention_factor, 0.1 * std::log(4.0) + 1.0);
  }
}

TEST(RopeConfigTest, YarnsMagnitudeIsGivenOrARatio) {
  const std::string start =
      R"({"max_position_embeddings": 8, "rope_scaling": {"type": "yarn", "factor": 40, )";
  EXPECT_EQ(Parse(start + R"("attention_factor": 1.5, "mscale": 1, "mscale_all_dim": 2}})")
                ->attention_factor,
            1.5);
  EXPECT_EQ(Parse(start + R"("mscale": 0.7, "mscale_all_dim": 0.7}})")->attention_factor, 1.0);
  EXPECT_DOUBLE_EQ(Parse(start + R"("mscale": 2, "mscale_all_dim": 1}})")->attention_factor,
                   YarnMagnitude(40.0, 2.0) / YarnMagnitude(40.0, 1.0));
  EXPECT_DOUBLE_EQ(Parse(start + R"("mscale": 2, "mscale_all_dim": 0}})")->attention_factor,
                   YarnMagnitude(40.0, 1.0));
  EXPECT_EQ(YarnMagnitude(1.0, 5.0), 1.0);
  EXPECT_DOUBLE_EQ(YarnMagnitude(40.0, 0.0), 1.0);
}

TEST(RopeConfigTest, AbsurdYarnIsNamed) {
  const auto bad = absl::StatusCode::kInvalidArgument;
  const auto with = [](const std::string& more) {
    return Parse(R"({"max_position_embeddings": 8, "rope_scaling": {"type": "yarn")" + more + "}}");
  };
  EXPECT_THAT(with(""), StatusIs(bad, HasSubstr("rope_scaling.factor")));
  EXPECT_THAT(with(R"(, "factor": 2, "original_max_position_embeddings": 0)"),
              StatusIs(bad, HasSubstr("original_max_position_embeddings")));
  EXPECT_THAT(with(R"(, "factor": 2, "beta_fast": 0)"), StatusIs(bad, HasSubstr("beta_fast")));
  EXPECT_THAT(with(R"(, "factor": 2, "beta_fast": 1, "beta_slow": 2)"),
              StatusIs(bad, HasSubstr("beta_fast: expected at least beta_slow, 2")));
  EXPECT_THAT(with(R"(, "factor": 2, "mscale": -1)"), StatusIs(bad, HasSubstr("mscale")));
  EXPECT_THAT(with(R"(, "factor": 2, "attention_factor": 0)"),
              StatusIs(bad, HasSubstr("attention_factor")));
  EXPECT_THAT(Parse(R"({"rope_scaling": {"type": "yarn", "factor": 2}})"),
              StatusIs(bad, HasSubstr("max_position_embeddings")));
}

TEST(RopeConfigTest, MscaleAllDimStandsInEitherObject) {
  for (const char* text : {R"({"rope_scaling": {"mscale_all_dim": 0.7}})",
                           R"({"rope_parameters": {"mscale_all_dim": 0.7}})"}) {
    const nlohmann::json object = nlohmann::json::parse(text);
    EXPECT_EQ(*ParseMscaleAllDim(ConfigReader(object)), 0.7);
  }
  const nlohmann::json none = nlohmann::json::object();
  EXPECT_EQ(*ParseMscaleAllDim(ConfigReader(none)), 0.0);
}

TEST(RopeConfigTest, AbsurdAndContradictoryValuesAreNamed) {
  const auto bad = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(Parse(R"({"rope_theta": 0})"), StatusIs(bad, HasSubstr("key rope_theta")));
  EXPECT_THAT(Parse(R"({"rope_theta": "big"})"), StatusIs(bad, HasSubstr("key rope_theta")));
  EXPECT_THAT(Parse(R"({"rope_scaling": 3})"),
              StatusIs(bad, HasSubstr("key rope_scaling: expected an object")));
  EXPECT_THAT(Parse(R"({"rope_scaling": {"type": "linear"}})"),
              StatusIs(bad, HasSubstr("rope_scaling.factor")));
  EXPECT_THAT(Parse(R"({"rope_scaling": {"type": "linear", "factor": 0.5}})"),
              StatusIs(bad, HasSubstr(">= 1")));
  EXPECT_THAT(Parse(R"({"rope_scaling": {"type": "linear", "rope_type": "llama3"}})"),
              StatusIs(bad, HasSubstr("rope_scaling.type: expected the rope_type")));
  EXPECT_THAT(Parse(R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4,
                        "high_freq_factor": 1, "original_max_position_embeddings": 8192}})"),
              StatusIs(bad, HasSubstr("high_freq_factor")));
  EXPECT_THAT(Parse(R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
                        "high_freq_factor": 4}})"),
              StatusIs(bad, HasSubstr("original_max_position_embeddings")));
  EXPECT_THAT(Parse(R"({"rope_theta": 7, "rope_parameters": {"rope_theta": 8}})"),
              StatusIs(bad, HasSubstr("rope_parameters.rope_theta")));
  EXPECT_THAT(
      Parse(
          R"({"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"rope_theta": 8}})"),
      StatusIs(bad, HasSubstr("what the key rope_scaling says")));
}

TEST(RopeConfigTest, WhatIsNotSupportedIsNamed) {
  const auto missing = absl::StatusCode::kUnimplemented;
  EXPECT_THAT(Parse(R"({"rope_scaling": {"type": "longrope", "factor": 2}})"),
              StatusIs(missing, HasSubstr("default, linear, llama3 or yarn, found \"longrope\"")));
  EXPECT_THAT(Parse(R"({"max_position_embeddings": 8,
                        "rope_scaling": {"type": "yarn", "factor": 2, "truncate": false}})"),
              StatusIs(missing, HasSubstr("truncate")));
  EXPECT_THAT(Parse(R"({"partial_rotary_factor": 0.5})"),
              StatusIs(missing, HasSubstr("partial_rotary_factor")));
  EXPECT_THAT(Parse(R"({"rope_parameters": {"partial_rotary_factor": 0.5}})"),
              StatusIs(missing, HasSubstr("partial_rotary_factor")));
  EXPECT_THAT(Parse(R"({"rope_parameters": {"full_attention": {"rope_theta": 3}}})"),
              StatusIs(missing, HasSubstr("full_attention")));
}

nlohmann::json Minimal() {
  return {{"vocab_size", 100},
          {"hidden_size", 32},
          {"num_attention_heads", 4},
          {"intermediate_size", 64},
          {"num_hidden_layers", 3}};
}

absl::StatusOr<ModelSpec> Parse(const nlohmann::json& object) {
  return ParseDense(ConfigReader(object), DenseDefaults{});
}

absl::Status ParseWith(const std::string& key, const nlohmann::json& value) {
  nlohmann::json object = Minimal();
  object[key] = value;
  return Parse(object).status();
}

TEST(DenseConfigTest, TheMinimumTakesDefaults) {
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, Parse(Minimal()));
  EXPECT_EQ(spec.layer_count(), 3);
  EXPECT_EQ(spec.layers[0].attention.kv_heads, 4);
  EXPECT_EQ(spec.layers[0].attention.head_dim, 8);
  EXPECT_EQ(spec.layers[0].ffn.activation, kernels::Activation::kSilu);
  EXPECT_EQ(spec.max_positions, 2048);
  EXPECT_FLOAT_EQ(spec.norm_eps, 1e-6f);
  EXPECT_EQ(spec.rope.theta, 10000.0);
  EXPECT_FALSE(spec.tied_head);
}

TEST(DenseConfigTest, EverySizeIsRequired) {
  const nlohmann::json minimal = Minimal();
  for (const auto& [key, value] : minimal.items()) {
    nlohmann::json object = Minimal();
    object.erase(key);
    EXPECT_THAT(Parse(object), StatusIs(absl::StatusCode::kInvalidArgument,
                                        AllOf(HasSubstr(key), HasSubstr("nothing"))));
  }
}

TEST(DenseConfigTest, AbsurdValuesAreNamed) {
  const auto bad = absl::StatusCode::kInvalidArgument;
  for (const char* key : {"vocab_size", "hidden_size", "num_attention_heads", "intermediate_size",
                          "num_hidden_layers", "num_key_value_heads", "head_dim",
                          "max_position_embeddings", "rms_norm_eps"}) {
    for (const nlohmann::json& value :
         {nlohmann::json(0), nlohmann::json(-1), nlohmann::json(1e300), nlohmann::json(INT64_MAX),
          nlohmann::json("7"), nlohmann::json::array()}) {
      EXPECT_THAT(ParseWith(key, value), StatusIs(bad, HasSubstr(key))) << value;
    }
  }
}

TEST(DenseConfigTest, ContradictionsAreNamed) {
  const auto bad = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(ParseWith("num_key_value_heads", 3),
              StatusIs(bad, HasSubstr("a divisor of num_attention_heads, 4")));
  EXPECT_THAT(ParseWith("hidden_size", 33),
              StatusIs(bad, HasSubstr("a multiple of num_attention_heads, 4")));
  EXPECT_THAT(ParseWith("head_dim", 7), StatusIs(bad, HasSubstr("an even number")));
  EXPECT_THAT(ParseWith("num_attention_heads", 32),
              StatusIs(bad, HasSubstr("an even number (here 1)")));
}

TEST(DenseConfigTest, ActivationsAndQuantization) {
  EXPECT_OK(ParseWith("hidden_act", "gelu_pytorch_tanh"));
  EXPECT_OK(ParseWith("hidden_act", "gelu"));
  EXPECT_THAT(ParseWith("hidden_act", "relu2"),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("relu2")));
  EXPECT_THAT(ParseWith("quantization_config", {{"bits", 4}}),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("quantization_config")));
}

class SlidingWindowTest : public ::testing::Test {
 protected:
  absl::Status Apply(const std::string& text, SlidingWindow window) {
    const nlohmann::json object = nlohmann::json::parse(text);
    return ApplySlidingWindow(ConfigReader(object), window, spec_);
  }
  int64_t Window(size_t layer) const { return spec_.layers[layer].attention.sliding_window; }
  ModelSpec spec_ = *Parse(Minimal());
};

TEST_F(SlidingWindowTest, HoldsFromTheFirstLayerOn) {
  ASSERT_OK(Apply("{}", {7, 1}));
  EXPECT_EQ(Window(0), 0);
  EXPECT_EQ(Window(1), 7);
  EXPECT_EQ(Window(2), 7);
}

TEST_F(SlidingWindowTest, LayerTypesDecideWhereTheyStand) {
  ASSERT_OK(Apply(
      R"({"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]})", {7, 2}));
  EXPECT_EQ(Window(0), 7);
  EXPECT_EQ(Window(1), 0);
  EXPECT_EQ(Window(2), 7);
}

TEST_F(SlidingWindowTest, LayerTypesThatDoNotFitAreNamed) {
  const auto bad = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(Apply(R"({"layer_types": ["full_attention"]})", {7, 0}),
              StatusIs(bad, HasSubstr("3 entries")));
  EXPECT_THAT(Apply(R"({"layer_types": ["full_attention", "linear", "full_attention"]})", {7, 0}),
              StatusIs(bad, HasSubstr("layer_types")));
  EXPECT_THAT(Apply(R"({"layer_types": ["full_attention", "sliding_attention", "full_attention"]})",
                    {0, 0}),
              StatusIs(bad, HasSubstr("no sliding window")));
}

TEST(OptionalWindowTest, IsReadOnlyWhereItIsUsed) {
  const auto parse = [](const std::string& text) {
    const nlohmann::json object = nlohmann::json::parse(text);
    return ParseOptionalWindow(ConfigReader(object));
  };
  EXPECT_EQ(parse(R"({"sliding_window": 8, "use_sliding_window": false})")->tokens, 0);
  EXPECT_EQ(parse(R"({"sliding_window": 8, "use_sliding_window": true, "max_window_layers": 2})")
                ->first_layer,
            2);
  EXPECT_THAT(parse(R"({"use_sliding_window": true, "max_window_layers": 2})"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("sliding_window")));
}

TEST(LlamaTest, BiasesAreOffUnlessTheConfigSaysSo) {
  nlohmann::json object = Minimal();
  ASSERT_OK_AND_ASSIGN(const ModelSpec plain, ParseLlama(ConfigReader(object)));
  EXPECT_FALSE(plain.layers[0].attention.qkv_bias);
  EXPECT_FALSE(plain.layers[0].attention.output_bias);
  EXPECT_FALSE(plain.layers[0].ffn.bias);
  object["attention_bias"] = true;
  object["mlp_bias"] = true;
  ASSERT_OK_AND_ASSIGN(const ModelSpec biased, ParseLlama(ConfigReader(object)));
  EXPECT_TRUE(biased.layers[2].attention.qkv_bias);
  EXPECT_TRUE(biased.layers[2].attention.output_bias);
  EXPECT_TRUE(biased.layers[2].ffn.bias);
}

TEST(LlamaTest, TheHeadMayBeTiedAndHeadDimOfItsOwn) {
  nlohmann::json object = Minimal();
  object["tie_word_embeddings"] = true;
  object["head_dim"] = 64;
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseLlama(ConfigReader(object)));
  EXPECT_TRUE(spec.tied_head);
  EXPECT_EQ(spec.layers[0].attention.head_dim, 64);
  EXPECT_EQ(spec.layers[0].attention.scale, 0.125f);
}

TEST(MistralTest, TheWindowIsANumberOrNullOrTheDefault) {
  nlohmann::json object = Minimal();
  EXPECT_EQ(ParseMistral(ConfigReader(object))->layers[0].attention.sliding_window, 4096);
  object["sliding_window"] = nullptr;
  EXPECT_EQ(ParseMistral(ConfigReader(object))->layers[0].attention.sliding_window, 0);
  object["sliding_window"] = 12;
  EXPECT_EQ(ParseMistral(ConfigReader(object))->layers[2].attention.sliding_window, 12);
  object["sliding_window"] = 0;
  EXPECT_THAT(ParseMistral(ConfigReader(object)),
              testing::StatusIs(absl::StatusCode::kInvalidArgument,
                                ::testing::HasSubstr("sliding_window")));
}

TEST(Qwen2Test, QueryKeyAndValueHaveABiasTheOutputHasNone) {
  const nlohmann::json object = Minimal();
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseQwen2(ConfigReader(object)));
  EXPECT_TRUE(spec.layers[0].attention.qkv_bias);
  EXPECT_FALSE(spec.layers[0].attention.output_bias);
  EXPECT_EQ(spec.layers[0].attention.qk_norm, QkNorm::kNone);
}

TEST(Qwen2Test, TheWindowHoldsOnlyWhereItIsUsedAndFromItsFirstLayer) {
  nlohmann::json object = Minimal();
  object["sliding_window"] = 8;
  object["max_window_layers"] = 1;
  EXPECT_EQ(ParseQwen2(ConfigReader(object))->layers[2].attention.sliding_window, 0);
  object["use_sliding_window"] = true;
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseQwen2(ConfigReader(object)));
  EXPECT_EQ(spec.layers[0].attention.sliding_window, 0);
  EXPECT_EQ(spec.layers[1].attention.sliding_window, 8);
}

TEST(Qwen3Test, HeadsAreNormedAndAre128WideUnlessSaidOtherwise) {
  nlohmann::json object = Minimal();
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseQwen3(ConfigReader(object)));
  EXPECT_EQ(spec.layers[0].attention.qk_norm, QkNorm::kPerHead);
  EXPECT_EQ(spec.layers[0].attention.head_dim, 128);
  EXPECT_FALSE(spec.layers[0].attention.qkv_bias);
  object["head_dim"] = 16;
  object["attention_bias"] = true;
  ASSERT_OK_AND_ASSIGN(const ModelSpec other, ParseQwen3(ConfigReader(object)));
  EXPECT_EQ(other.layers[0].attention.head_dim, 16);
  EXPECT_TRUE(other.layers[0].attention.qkv_bias);
  EXPECT_TRUE(other.layers[0].attention.output_bias);
}

TEST(Qwen3Test, ReadsAConfigAsTransformers5WritesIt) {
  nlohmann::json object = Minimal();
  object["dtype"] = "bfloat16";
  object["rope_parameters"] = {{"rope_theta", 1000000.0}, {"rope_type", "default"}};
  object["sliding_window"] = nullptr;
  object["use_sliding_window"] = false;
  object["layer_types"] = {"full_attention", "full_attention", "full_attention"};
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseQwen3(ConfigReader(object)));
  EXPECT_EQ(spec.rope.theta, 1000000.0);
  EXPECT_EQ(spec.layers[1].attention.sliding_window, 0);
}

}  // namespace
}  // namespace ccoe::model
