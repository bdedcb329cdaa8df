#include "runtime/model/families/moe_config.h"

#include <string>

#include "gmock/gmock.h"
#include "tests/runtime/model/families/minimal_config.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

absl::StatusOr<MoeSpec> Parse(const nlohmann::json& object) {
  return ParseMoe(ConfigReader(object), "num_experts", "moe_intermediate_size");
}

TEST(MoeConfigTest, AnyOfTheThreeKeysNamesTheNumberOfExperts) {
  for (const char* key : {"num_experts", "num_local_experts", "n_routed_experts"}) {
    ASSERT_OK_AND_ASSIGN(const MoeSpec moe, Parse(MinimalMoe(key)));
    EXPECT_EQ(moe.experts, 8) << key;
    EXPECT_EQ(moe.intermediate, 16);
    EXPECT_EQ(moe.gate.top_k, 2);
  }
  nlohmann::json both = MinimalMoe("num_experts");
  both["n_routed_experts"] = 8;
  EXPECT_OK(Parse(both));
  both["n_routed_experts"] = 7;
  EXPECT_THAT(Parse(both), StatusIs(absl::StatusCode::kInvalidArgument,
                                    AllOf(HasSubstr("key n_routed_experts"),
                                          HasSubstr("the key num_experts says, 8, found 7"))));
}

TEST(MoeConfigTest, EverySizeIsRequiredAndBounded) {
  for (const char* key : {"num_experts", "num_experts_per_tok", "moe_intermediate_size"}) {
    for (const nlohmann::json& value :
         {nlohmann::json(), nlohmann::json(0), nlohmann::json(-1), nlohmann::json(INT64_MAX),
          nlohmann::json("2"), nlohmann::json(2.0)}) {
      nlohmann::json object = MinimalMoe("num_experts");
      object[key] = value;
      EXPECT_THAT(Parse(object), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(key)))
          << value;
    }
  }
}

TEST(MoeConfigTest, MoreChosenExpertsThanThereAreIsAnErrorThatNamesBothKeys) {
  nlohmann::json object = MinimalMoe("n_routed_experts");
  object["num_experts_per_tok"] = 9;
  EXPECT_THAT(Parse(object),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("num_experts_per_tok: expected at most n_routed_experts, 8")));
}

class SparseLayersTest : public ::testing::Test {
 protected:
  // "d" for a dense layer, "m" for one with experts.
  absl::StatusOr<std::string> Layers(const std::string& text) {
    const nlohmann::json object = nlohmann::json::parse(text);
    ModelSpec spec;
    spec.layers.resize(6);
    const absl::Status status = SetSparseLayers(ConfigReader(object), MoeSpec{}, spec);
    if (!status.ok()) return status;
    std::string kinds;
    for (const LayerSpec& layer : spec.layers) kinds += layer.ffn.is_moe() ? 'm' : 'd';
    return kinds;
  }
};

TEST_F(SparseLayersTest, StepAndListDecide) {
  EXPECT_EQ(*Layers("{}"), "mmmmmm");
  EXPECT_EQ(*Layers(R"({"mlp_only_layers": null})"), "mmmmmm");
  EXPECT_EQ(*Layers(R"({"decoder_sparse_step": 2})"), "dmdmdm");
  EXPECT_EQ(*Layers(R"({"mlp_only_layers": [0, 5, 5]})"), "dmmmmd");
  EXPECT_EQ(*Layers(R"({"decoder_sparse_step": 3, "mlp_only_layers": [2]})"), "dddddm");
  EXPECT_EQ(*Layers(R"({"decoder_sparse_step": 7})"), "dddddd");
}

TEST_F(SparseLayersTest, WhatDoesNotFitIsNamed) {
  const auto bad = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(Layers(R"({"decoder_sparse_step": 0})"),
              StatusIs(bad, HasSubstr("decoder_sparse_step")));
  EXPECT_THAT(Layers(R"({"mlp_only_layers": [6]})"), StatusIs(bad, HasSubstr("0 to 5")));
  EXPECT_THAT(Layers(R"({"mlp_only_layers": 3})"), StatusIs(bad, HasSubstr("mlp_only_layers")));
}

}  // namespace
}  // namespace ccoe::model
