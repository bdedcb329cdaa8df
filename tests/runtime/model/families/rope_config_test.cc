#include "runtime/model/families/rope_config.h"

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
  EXPECT_THAT(Parse(R"({"rope_scaling": {"type": "yarn", "factor": 2}})"),
              StatusIs(missing, HasSubstr("default, linear or llama3, found \"yarn\"")));
  EXPECT_THAT(Parse(R"({"partial_rotary_factor": 0.5})"),
              StatusIs(missing, HasSubstr("partial_rotary_factor")));
  EXPECT_THAT(Parse(R"({"rope_parameters": {"partial_rotary_factor": 0.5}})"),
              StatusIs(missing, HasSubstr("partial_rotary_factor")));
  EXPECT_THAT(Parse(R"({"rope_parameters": {"full_attention": {"rope_theta": 3}}})"),
              StatusIs(missing, HasSubstr("full_attention")));
}

}  // namespace
}  // namespace ccoe::model
