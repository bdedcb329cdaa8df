#include "runtime/model/families/rope_config.h"

#include <cmath>
#include <string>

#include "gmock/gmock.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

absl::StatusOr<RopeSpec> Parse(const std::string& text) {
  const nlohmann::json object = nlohmann::json::parse(text);
  return ParseRope(ConfigReader(object), 500.0);
}

TEST(RopeConfigTest, NothingMeansTheFamilysThetaWithoutScaling) {
  for (const char* text :
       {"{}", R"({"rope_scaling": null})", R"({"rope_scaling": {"rope_type": "default"}})",
        R"({"rope_parameters": {"rope_type": "default"}})"}) {
    ASSERT_OK_AND_ASSIGN(const RopeSpec rope, Parse(text));
    EXPECT_EQ(rope.theta, 500.0) << text;
    EXPECT_EQ(rope.scaling, RopeScaling::kNone) << text;
  }
}

TEST(RopeConfigTest, LinearInBothSpellingsAndBothStyles) {
  for (const char* text :
       {R"({"rope_theta": 9, "rope_scaling": {"type": "linear", "factor": 2.5}})",
        R"({"rope_theta": 9, "rope_scaling": {"rope_type": "linear", "factor": 2.5}})",
        R"({"rope_parameters": {"rope_theta": 9.0, "rope_type": "linear", "factor": 2.5}})"}) {
    ASSERT_OK_AND_ASSIGN(const RopeSpec rope, Parse(text));
    EXPECT_EQ(rope.theta, 9.0) << text;
    EXPECT_EQ(rope.scaling, RopeScaling::kLinear) << text;
    EXPECT_EQ(rope.factor, 2.5) << text;
  }
}

TEST(RopeConfigTest, Llama3ReadsAllItsParameters) {
  ASSERT_OK_AND_ASSIGN(
      const RopeSpec rope,
      Parse(R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
                                 "high_freq_factor": 4, "original_max_position_embeddings": 8192}})"));
  EXPECT_EQ(rope.scaling, RopeScaling::kLlama3);
  EXPECT_EQ(rope.factor, 8.0);
  EXPECT_EQ(rope.low_freq_factor, 1.0);
  EXPECT_EQ(rope.high_freq_factor, 4.0);
  EXPECT_EQ(rope.original_max_positions, 8192);
}

TEST(RopeConfigTest, YarnTakesTheDefaultsOfItsPaper) {
  for (const char* text :
       {R"({"max_position_embeddings": 128, "rope_scaling": {"type": "yarn", "factor": 4}})",
        R"({"rope_parameters": {"rope_type": "yarn", "factor": 4,
                                "original_max_position_embeddings": 128}})"}) {
    ASSERT_OK_AND_ASSIGN(const RopeSpec rope, Parse(text));
    EXPECT_EQ(rope.scaling, RopeScaling::kYarn);
    EXPECT_EQ(rope.factor, 4.0);
    EXPECT_EQ(rope.original_max_positions, 128);
    EXPECT_EQ(rope.beta_fast, 32.0);
    EXPECT_EQ(rope.beta_slow, 1.0);
    EXPECT_DOUBLE_EQ(rope.attention_factor, 0.1 * std::log(4.0) + 1.0);
  }
}

TEST(RopeConfigTest, YarnsMagnitudeIsGivenOrARatio) {
  const std::string start =
      R"({"max_position_embeddings": 8, "rope_scaling": {"type": "yarn", "factor": 40, )";
  EXPECT_EQ(Parse(start + R"("attention_factor": 1.5, "mscale": 1, "mscale_all_dim": 2}})")
                ->attention_factor,
            1.5);
  EXPECT_EQ(Parse(start + R"("mscale": 0.7, "mscale_all_dim": 0.7}})")->attention_factor, 1.0);
  EXPECT_DOUBLE_EQ(Parse(start + R"("mscale": 2, "mscale_all_dim": 1}})")->attention_factor,
                   YarnMagnitude(40.0, 2.0) / YarnMagnitude(40.0, 1.0));
  EXPECT_DOUBLE_EQ(Parse(start + R"("mscale": 2, "mscale_all_dim": 0}})")->attention_factor,
                   YarnMagnitude(40.0, 1.0));
  EXPECT_EQ(YarnMagnitude(1.0, 5.0), 1.0);
  EXPECT_DOUBLE_EQ(YarnMagnitude(40.0, 0.0), 1.0);
}

TEST(RopeConfigTest, AbsurdYarnIsNamed) {
  const auto bad = absl::StatusCode::kInvalidArgument;
  const auto with = [](const std::string& more) {
    return Parse(R"({"max_position_embeddings": 8, "rope_scaling": {"type": "yarn")" + more + "}}");
  };
  EXPECT_THAT(with(""), StatusIs(bad, HasSubstr("rope_scaling.factor")));
  EXPECT_THAT(with(R"(, "factor": 2, "original_max_position_embeddings": 0)"),
              StatusIs(bad, HasSubstr("original_max_position_embeddings")));
  EXPECT_THAT(with(R"(, "factor": 2, "beta_fast": 0)"), StatusIs(bad, HasSubstr("beta_fast")));
  EXPECT_THAT(with(R"(, "factor": 2, "beta_fast": 1, "beta_slow": 2)"),
              StatusIs(bad, HasSubstr("beta_fast: expected at least beta_slow, 2")));
  EXPECT_THAT(with(R"(, "factor": 2, "mscale": -1)"), StatusIs(bad, HasSubstr("mscale")));
  EXPECT_THAT(with(R"(, "factor": 2, "attention_factor": 0)"),
              StatusIs(bad, HasSubstr("attention_factor")));
  EXPECT_THAT(Parse(R"({"rope_scaling": {"type": "yarn", "factor": 2}})"),
              StatusIs(bad, HasSubstr("max_position_embeddings")));
}

TEST(RopeConfigTest, MscaleAllDimStandsInEitherObject) {
  for (const char* text : {R"({"rope_scaling": {"mscale_all_dim": 0.7}})",
                           R"({"rope_parameters": {"mscale_all_dim": 0.7}})"}) {
    const nlohmann::json object = nlohmann::json::parse(text);
    EXPECT_EQ(*ParseMscaleAllDim(ConfigReader(object)), 0.7);
  }
  const nlohmann::json none = nlohmann::json::object();
  EXPECT_EQ(*ParseMscaleAllDim(ConfigReader(none)), 0.0);
}

TEST(RopeConfigTest, AbsurdAndContradictoryValuesAreNamed) {
  const auto bad = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(Parse(R"({"rope_theta": 0})"), StatusIs(bad, HasSubstr("key rope_theta")));
  EXPECT_THAT(Parse(R"({"rope_theta": "big"})"), StatusIs(bad, HasSubstr("key rope_theta")));
  EXPECT_THAT(Parse(R"({"rope_scaling": 3})"),
              StatusIs(bad, HasSubstr("key rope_scaling: expected an object")));
  EXPECT_THAT(Parse(R"({"rope_scaling": {"type": "linear"}})"),
              StatusIs(bad, HasSubstr("rope_scaling.factor")));
  EXPECT_THAT(Parse(R"({"rope_scaling": {"type": "linear", "factor": 0.5}})"),
              StatusIs(bad, HasSubstr(">= 1")));
  EXPECT_THAT(Parse(R"({"rope_scaling": {"type": "linear", "rope_type": "llama3"}})"),
              StatusIs(bad, HasSubstr("rope_scaling.type: expected the rope_type")));
  EXPECT_THAT(Parse(R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4,
                        "high_freq_factor": 1, "original_max_position_embeddings": 8192}})"),
              StatusIs(bad, HasSubstr("high_freq_factor")));
  EXPECT_THAT(Parse(R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
                        "high_freq_factor": 4}})"),
              StatusIs(bad, HasSubstr("original_max_position_embeddings")));
  EXPECT_THAT(Parse(R"({"rope_theta": 7, "rope_parameters": {"rope_theta": 8}})"),
              StatusIs(bad, HasSubstr("rope_parameters.rope_theta")));
  EXPECT_THAT(
      Parse(
          R"({"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"rope_theta": 8}})"),
      StatusIs(bad, HasSubstr("what the key rope_scaling says")));
}

TEST(RopeConfigTest, WhatIsNotSupportedIsNamed) {
  const auto missing = absl::StatusCode::kUnimplemented;
  EXPECT_THAT(Parse(R"({"rope_scaling": {"type": "longrope", "factor": 2}})"),
              StatusIs(missing, HasSubstr("default, linear, llama3 or yarn, found \"longrope\"")));
  EXPECT_THAT(Parse(R"({"max_position_embeddings": 8,
                        "rope_scaling": {"type": "yarn", "factor": 2, "truncate": false}})"),
              StatusIs(missing, HasSubstr("truncate")));
  EXPECT_THAT(Parse(R"({"partial_rotary_factor": 0.5})"),
              StatusIs(missing, HasSubstr("partial_rotary_factor")));
  EXPECT_THAT(Parse(R"({"rope_parameters": {"partial_rotary_factor": 0.5}})"),
              StatusIs(missing, HasSubstr("partial_rotary_factor")));
  EXPECT_THAT(Parse(R"({"rope_parameters": {"full_attention": {"rope_theta": 3}}})"),
              StatusIs(missing, HasSubstr("full_attention")));
}

}  // namespace
}  // namespace ccoe::model
