#include "gmock/gmock.h"
#include "runtime/model/families/families.h"
#include "tests/runtime/model/families/minimal_config.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

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

}  // namespace
}  // namespace ccoe::model
