#include "gmock/gmock.h"
#include "runtime/model/families/families.h"
#include "tests/runtime/model/families/minimal_config.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

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
