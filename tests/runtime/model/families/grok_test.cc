#include "gmock/gmock.h"
#include "runtime/model/families/families.h"
#include "tests/runtime/model/families/minimal_config.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

void ExpectGrokMaths(const ModelSpec& spec, kernels::Activation activation) {
  EXPECT_OK(Validate(spec));
  EXPECT_EQ(spec.embedding_multiplier, 78.5f);
  EXPECT_EQ(spec.logit_multiplier, 0.5f);
  EXPECT_TRUE(spec.tied_head);
  EXPECT_FLOAT_EQ(spec.norm_eps, 1e-5f);
  for (const LayerSpec& layer : spec.layers) {
    EXPECT_TRUE(layer.post_norms);
    EXPECT_EQ(layer.attention.scale, 0.25f);
    EXPECT_EQ(layer.attention.soft_cap, 30.0f);
    EXPECT_EQ(layer.ffn.activation, activation);
    EXPECT_EQ(layer.ffn.moe.intermediate, 64);
    EXPECT_EQ(layer.ffn.moe.gate.top_k, 2);
    EXPECT_FALSE(layer.ffn.moe.gate.renormalize);
  }
}

TEST(GrokTest, TheReleaseHasFourNormsMultipliersAndTheTanhFormOfGelu) {
  const nlohmann::json object = MinimalGrok("num_local_experts");
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseGrok(ConfigReader(object)));
  ExpectGrokMaths(spec, kernels::Activation::kGeluTanh);
  EXPECT_EQ(spec.names.embedding, "transformer.in_out_embed");
  EXPECT_EQ(spec.names.norm_suffix, ".weight");
  EXPECT_EQ(spec.names.ffn_post_norm, "rms_norm_3");
}

TEST(GrokTest, ThePortHasOtherNamesAndTheExactFormOfGelu) {
  const nlohmann::json object = MinimalGrok("num_experts");
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseGrokPort(ConfigReader(object)));
  ExpectGrokMaths(spec, kernels::Activation::kGeluErf);
  EXPECT_EQ(spec.names.embedding, "model.embed_tokens");
  EXPECT_EQ(spec.names.norm_suffix, ".scale");
  EXPECT_EQ(spec.names.attention_norm, "pre_attn_norm");
  EXPECT_EQ(spec.names.expert_prefix, "moe_block.experts.");
}

TEST(GrokTest, TheConfigMayNameTheActivationAndUntieTheHead) {
  nlohmann::json object = MinimalGrok("num_local_experts");
  object["hidden_act"] = "gelu";
  object["tie_word_embeddings"] = false;
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseGrok(ConfigReader(object)));
  EXPECT_EQ(spec.layers[0].ffn.activation, kernels::Activation::kGeluErf);
  EXPECT_FALSE(spec.tied_head);
}

TEST(GrokTest, EveryMultiplierIsRequired) {
  for (const char* key : {"embedding_multiplier_scale", "output_multiplier_scale",
                          "attn_output_multiplier", "max_attn_value"}) {
    for (const nlohmann::json& value : {nlohmann::json(), nlohmann::json(0), nlohmann::json("1")}) {
      EXPECT_THAT(ParseWith(ParseGrok, MinimalGrok("num_local_experts"), key, value),
                  StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(key)));
    }
  }
}

}  // namespace
}  // namespace ccoe::model
