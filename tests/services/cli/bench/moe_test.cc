// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <string>
#include <vector>

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
  std::vector<int64_t> pairs;
  for (const auto& row : report["grouped_ffn"]) {
    pairs.push_back(row["rows"]);
    const double grouped = row["grouped_flops_per_second"], dense = row["dense_flops_per_second"];
    EXPECT_GT(grouped, 0);
    EXPECT_DOUBLE_EQ(row["of_dense"].get<double>(), grouped / dense);
  }
  EXPECT_EQ(pairs, (std::vector<int64_t>{2, 32, 128, 512, 1024}));
  EXPECT_EQ(report["threads"], 1);
  const auto seconds = [&report](const std::string& what) {
    return report[what + "_seconds_per_token"].get<double>();
  };
  const double here = seconds("with_backbone"), one = seconds("one_step_in_flight"),
               two = seconds("two_steps_in_flight");
  for (const double time : {here, one, two, seconds("with_backbone_one_more_thread")}) {
    EXPECT_GT(time, 0);
    EXPECT_LT(time, 1e29);  // of a round that ran
  }
  EXPECT_DOUBLE_EQ(seconds("swap"), one - here);
  EXPECT_DOUBLE_EQ(report["hidden"].get<double>(), one > here ? (one - two) / (one - here) : 0.0);
  EXPECT_DOUBLE_EQ(seconds("two_steps_added"), two - seconds("with_backbone_one_more_thread"));
}

TEST(BenchMoeTest, PrintsATable) {
  const auto result = BenchMoe({"--expert-workers", "2", "--wire", "bf16"});
  ASSERT_EQ(result.exit_code, kExitOk) << result.err;
  EXPECT_THAT(result.out, HasSubstr("grouped of dense"));
  EXPECT_THAT(result.out, HasSubstr("2 expert workers over grpc"));
  // Two steps compute on one thread more than one step does, and are held against that.
  EXPECT_THAT(result.out, HasSubstr("on workers, one step in flight      1 thread "));
  EXPECT_THAT(result.out, HasSubstr("experts with the backbone           2 threads"));
  EXPECT_THAT(result.out, HasSubstr("on workers, two steps in flight     2 threads"));
}

}  // namespace

}  // namespace ccoe::cli
