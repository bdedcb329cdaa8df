#include "runtime/model/families/dense.h"

#include <string>

#include "gmock/gmock.h"
#include "runtime/model/families/families.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

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
