#include "gmock/gmock.h"
#include "runtime/model/families/families.h"
#include "tests/runtime/model/families/minimal_config.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

TEST(DeepseekTest, TheFirstLayersAreDenseAndSharedExpertsAreOneMlp) {
  nlohmann::json object = MinimalMoe("n_routed_experts");
  object["first_k_dense_replace"] = 1;
  object["n_shared_experts"] = 2;
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseDeepseek(ConfigReader(object)));
  EXPECT_OK(Validate(spec));
  EXPECT_FALSE(spec.layers[0].ffn.is_moe());
  EXPECT_EQ(spec.layers[0].ffn.intermediate, 64);
  for (size_t i = 1; i < 4; ++i) {
    const MoeSpec& moe = spec.layers[i].ffn.moe;
    EXPECT_TRUE(spec.layers[i].ffn.is_moe());
    EXPECT_EQ(moe.shared, SharedExpert::kPlain);
    EXPECT_EQ(moe.shared_intermediate, 32);
    EXPECT_FALSE(moe.gate.renormalize);
    EXPECT_EQ(moe.gate.scale, 1.0f);
  }
  EXPECT_FALSE(spec.layers[1].attention.is_latent());
  EXPECT_EQ(spec.names.shared_prefix, "mlp.shared_experts.");
}

TEST(DeepseekTest, OneChosenExpertIsNotRenormalised) {
  nlohmann::json object = MinimalMoe("n_routed_experts");
  object["norm_topk_prob"] = true;
  EXPECT_TRUE(ParseDeepseek(ConfigReader(object))->layers[0].ffn.moe.gate.renormalize);
  object["num_experts_per_tok"] = 1;
  EXPECT_FALSE(ParseDeepseek(ConfigReader(object))->layers[0].ffn.moe.gate.renormalize);
}

TEST(DeepseekTest, BiasesAreReadAndOtherScoresRefused) {
  nlohmann::json object = MinimalMoe("n_routed_experts");
  object["attention_bias"] = true;
  EXPECT_TRUE(ParseDeepseek(ConfigReader(object))->layers[0].attention.output_bias);
  EXPECT_THAT(ParseWith(ParseDeepseek, object, "scoring_func", "sigmoid"),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("scoring_func")));
}

}  // namespace
}  // namespace ccoe::model
