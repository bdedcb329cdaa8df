#include "gmock/gmock.h"
#include "runtime/model/families/families.h"
#include "tests/runtime/model/families/minimal_config.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

constexpr char kKey[] = "num_local_experts";

TEST(MixtralTest, EveryLayerHasExpertsChosenBySoftmaxAndRenormalised) {
  const nlohmann::json object = MinimalMoe(kKey);
  ASSERT_OK_AND_ASSIGN(const ModelSpec spec, ParseMixtral(ConfigReader(object)));
  EXPECT_OK(Validate(spec));
  for (const LayerSpec& layer : spec.layers) {
    ASSERT_TRUE(layer.ffn.is_moe());
    EXPECT_EQ(layer.ffn.activation, kernels::Activation::kSilu);
    EXPECT_EQ(layer.ffn.moe.experts, 8);
    EXPECT_EQ(layer.ffn.moe.intermediate, 64);
    EXPECT_EQ(layer.ffn.moe.gate.top_k, 2);
    EXPECT_EQ(layer.ffn.moe.gate.score, kernels::RouterScore::kSoftmax);
    EXPECT_TRUE(layer.ffn.moe.gate.renormalize);
    EXPECT_EQ(layer.ffn.moe.gate.scale, 1.0f);
    EXPECT_EQ(layer.ffn.moe.shared, SharedExpert::kNone);
    EXPECT_EQ(layer.attention.sliding_window, 0);
  }
  EXPECT_EQ(spec.rope.theta, 1e6);
  EXPECT_FLOAT_EQ(spec.norm_eps, 1e-5f);
  EXPECT_EQ(spec.names.router, "block_sparse_moe.gate");
  EXPECT_EQ(spec.names.expert_prefix, "block_sparse_moe.experts.");
  EXPECT_EQ(spec.names.expert_gate + spec.names.expert_up + spec.names.expert_down, "w1w3w2");
}

TEST(MixtralTest, TheWindowIsANumberOrNone) {
  nlohmann::json object = MinimalMoe(kKey);
  object["sliding_window"] = nullptr;
  EXPECT_EQ(ParseMixtral(ConfigReader(object))->layers[3].attention.sliding_window, 0);
  object["sliding_window"] = 12;
  EXPECT_EQ(ParseMixtral(ConfigReader(object))->layers[3].attention.sliding_window, 12);
  EXPECT_THAT(ParseWith(ParseMixtral, object, "sliding_window", 0),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("sliding_window")));
}

TEST(MixtralTest, ContradictionsAndQuantizationAreNamed) {
  const auto bad = absl::StatusCode::kInvalidArgument;
  const nlohmann::json object = MinimalMoe(kKey);
  EXPECT_THAT(ParseWith(ParseMixtral, object, "num_experts_per_tok", 9),
              StatusIs(bad, HasSubstr("key num_experts_per_tok: expected at most "
                                      "num_local_experts, 8, found 9")));
  EXPECT_THAT(ParseWith(ParseMixtral, object, "num_local_experts", nullptr),
              StatusIs(bad, AllOf(HasSubstr("num_local_experts"), HasSubstr("nothing"))));
  EXPECT_THAT(ParseWith(ParseMixtral, object, "quantization_config", {{"bits", 4}}),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("quantization_config")));
}

}  // namespace
}  // namespace ccoe::model
