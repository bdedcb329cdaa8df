// SPDX-License-Identifier: Apache-2.0
#include "services/cli/client/eval.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "services/cli/commands.h"
#include "tests/testing/command_line.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::testing::HasSubstr;

TEST(WilsonIntervalTest, GivesTheKnownValues) {
  // 81 of 263 (Newcombe 1998, table I): 0.2553 to 0.3662.
  const Interval interval = WilsonInterval({81, 263});
  EXPECT_NEAR(interval.low, 25.53, 0.01);
  EXPECT_NEAR(interval.high, 36.62, 0.01);
  // 0 of 20: 0 to 0.1611.
  EXPECT_NEAR(WilsonInterval({0, 20}).low, 0.0, 1e-9);
  EXPECT_NEAR(WilsonInterval({0, 20}).high, 16.11, 0.01);
}

TEST(EvalTableTest, ShowsDomainsWithAndWithoutAnExpert) {
  EvalScores scores;
  scores["math"].base = {50, 100};
  scores["math"].expert = Score{90, 100};
  scores["math"].full = Score{91, 100};
  scores["math"].routed = {100, 100};
  scores["general"].base = {80, 100};
  const std::string table = EvalTable(scores);
  EXPECT_THAT(table, HasSubstr("math"));
  EXPECT_THAT(table, HasSubstr(" 90.0 ["));
  EXPECT_THAT(table, HasSubstr("100.0%"));
  const nlohmann::json json = EvalJson(scores);
  EXPECT_EQ(json["math"]["expert"]["right"], 90);
  EXPECT_TRUE(json["general"]["expert"].is_null());
}

TEST(ReadFullScoresTest, ReadsWhatTheRecipeWrites) {
  const std::string path = testing::WriteTemp(
      "scores.json",
      R"({"full": {"math": {"math": {"n": 600, "right": 590}, "general": {"n": 1, "right": 1}}}})");
  ASSERT_OK_AND_ASSIGN(const auto scores, ReadFullScores(path));
  ASSERT_EQ(scores.size(), 1u);
  EXPECT_EQ(scores.at("math").right, 590);
  EXPECT_EQ(scores.at("math").n, 600);
}

TEST(ReadFullScoresTest, RefusesAnotherForm) {
  EXPECT_THAT(ReadFullScores(testing::WriteTemp("a.json", "{}")),
              testing::StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("full")));
  EXPECT_THAT(
      ReadFullScores(testing::WriteTemp("b.json", R"({"full": {"math": {"math": {"n": 1}}}})")),
      testing::StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("math")));
}

}  // namespace

}  // namespace ccoe::cli
