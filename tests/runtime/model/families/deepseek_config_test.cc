#include "runtime/model/families/deepseek_config.h"

#include <string>

#include "gmock/gmock.h"
#include "tests/runtime/model/families/minimal_config.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

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

}  // namespace
}  // namespace ccoe::model
