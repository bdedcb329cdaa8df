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

}  // namespace
}  // namespace ccoe::model
