#include "gmock/gmock.h"
#include "runtime/model/families/families.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

nlohmann::json Minimal() {
  return {{"vocab_size", 100},
          {"hidden_size", 32},
          {"num_attention_heads", 4},
          {"intermediate_size", 64},
          {"num_hidden_layers", 3}};
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
