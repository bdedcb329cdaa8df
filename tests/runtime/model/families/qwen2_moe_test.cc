#include "gmock/gmock.h"
#include "runtime/model/families/families.h"
#include "tests/runtime/model/families/minimal_config.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

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

}  // namespace
}  // namespace ccoe::model
