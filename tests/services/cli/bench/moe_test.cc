// SPDX-License-Identifier: Apache-2.0
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "services/cli/commands.h"
#include "tests/testing/command_line.h"

namespace ccoe::cli {
namespace {

using ::testing::HasSubstr;

testing::CommandOutput BenchMoe(std::vector<std::string> words) {
  const std::vector<std::string> tiny = {
      "bench",      "moe", "--hidden",       "64", "--layers",     "2",   "--heads",   "4",
      "--kv-heads", "2",   "--intermediate", "64", "--vocabulary", "256", "--threads", "1",
      "--queries",  "2",   "--rounds",       "1",  "--new-tokens", "4"};
  words.insert(words.begin(), tiny.begin(), tiny.end());
  return testing::RunCcoe(words, {RegisterBench});
}

TEST(BenchMoeTest, ComparesGroupedWithDenseAndSwapsWithNone) {
  const auto result = BenchMoe({"--json"});
  ASSERT_EQ(result.exit_code, kExitOk) << result.err;
  const nlohmann::json report = nlohmann::json::parse(result.out);
  ASSERT_FALSE(report["grouped_ffn"].empty());
  for (const auto& row : report["grouped_ffn"]) {
    EXPECT_GT(row["grouped_flops_per_second"].get<double>(), 0);
    EXPECT_GT(row["dense_flops_per_second"].get<double>(), 0);
  }
  for (const char* time :
       {"with_backbone_seconds_per_token", "one_step_in_flight_seconds_per_token",
        "two_steps_in_flight_seconds_per_token"}) {
    EXPECT_GT(report[time].get<double>(), 0) << time;
  }
}

TEST(BenchMoeTest, PrintsATable) {
  const auto result = BenchMoe({"--expert-workers", "2", "--wire", "bf16"});
  ASSERT_EQ(result.exit_code, kExitOk) << result.err;
  EXPECT_THAT(result.out, HasSubstr("grouped of dense"));
  EXPECT_THAT(result.out, HasSubstr("2 expert workers over grpc"));
}

}  // namespace

}  // namespace ccoe::cli
