// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "runtime/placement/plan.h"
#include "services/cli/commands.h"
#include "tests/testing/command_line.h"
#include "tests/testing/golden_model.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::ccoe::testing::CommandOutput;
using ::ccoe::testing::TempPath;
using ::ccoe::testing::WriteTemp;
using ::testing::AllOf;
using ::testing::HasSubstr;

CommandOutput Placement(const std::vector<std::string>& words) {
  std::vector<std::string> all = {"placement"};
  all.insert(all.end(), words.begin(), words.end());
  all.push_back("--model=" + testing::GoldenFolder("mixtral-8x2"));
  return testing::RunCcoe(all, {RegisterPlacement});
}

TEST(PlacementCommandTest, WhatItPlansPassesItsCheck) {
  const std::string file = TempPath("plan.textproto");
  const CommandOutput planned =
      Placement({"plan", "--workers=3", "--replicas=2", "--budget=1MiB", "--output=" + file});
  ASSERT_EQ(planned.exit_code, kExitOk) << planned.err;
  EXPECT_THAT(planned.out, AllOf(HasSubstr("expert-2"), HasSubstr("1.05 MB"), HasSubstr("faster "),
                                 HasSubstr("round trip")));
  const CommandOutput checked = Placement({"check", file, "--workers=expert-0, expert-1,expert-2"});
  EXPECT_EQ(checked.exit_code, kExitOk) << checked.err;
  ASSERT_OK_AND_ASSIGN(const placement::Plan plan, placement::ReadPlan(file));
  EXPECT_EQ(plan.workers[0].memory_budget_bytes, 1 << 20);
}

TEST(PlacementCommandTest, PrintsThePlanAloneWhereNoFileIsNamed) {
  const CommandOutput planned = Placement({"plan", "--workers=2", "--measure=false"});
  ASSERT_EQ(planned.exit_code, kExitOk) << planned.err;
  EXPECT_OK(placement::ParsePlan(planned.out, "stdout"));
  EXPECT_EQ(planned.err, "");
  const CommandOutput here = Placement({"plan", "--workers=0"});
  ASSERT_OK_AND_ASSIGN(const placement::Plan plan, placement::ParsePlan(here.out, "stdout"));
  EXPECT_EQ(plan.with_backbone.size(), 32);
}

TEST(PlacementCommandTest, AFlagWithoutEffectIsNamed) {
  const CommandOutput unmeasured =
      Placement({"plan", "--workers=2", "--measure=false", "--rows", "8"});
  EXPECT_EQ(unmeasured.exit_code, kExitUsage);
  EXPECT_THAT(unmeasured.err, HasSubstr("--rows has no effect with --measure=false"));
  const CommandOutput here = Placement({"plan", "--workers=0", "--replicas", "2"});
  EXPECT_EQ(here.exit_code, kExitUsage);
  EXPECT_THAT(here.err, HasSubstr("--replicas has no effect with --workers 0"));
}

TEST(PlacementCommandTest, JsonHoldsThePlanAndTheMeasuredCosts) {
  const CommandOutput planned = Placement({"plan", "--workers=2", "--json"});
  ASSERT_EQ(planned.exit_code, kExitOk) << planned.err;
  const nlohmann::json json = nlohmann::json::parse(planned.out);
  EXPECT_EQ(json["plan"]["workers"].size(), 2u);
  EXPECT_TRUE(json["faster"]["with_backbone"].is_boolean());
  EXPECT_GT(json["faster"]["expert_seconds_128"].get<double>(), 0);
}

TEST(PlacementCommandTest, ASlowNetworkKeepsExpertsWithTheBackbone) {
  const CommandOutput planned = Placement({"plan", "--workers=2", "--round-trip-us=1e6", "--json"});
  ASSERT_EQ(planned.exit_code, kExitOk) << planned.err;
  EXPECT_TRUE(nlohmann::json::parse(planned.out)["faster"]["with_backbone"]);
}

TEST(PlacementCommandTest, HotExpertsGetReplicas) {
  const std::string stats =
      WriteTemp("stats.json", R"({"layers": [{"layer": 2, "tokens": [90, 1, 1, 1, 1, 1, 1, 1]}]})");
  const CommandOutput planned = Placement({"plan", "--workers=4", "--replicas=7%", "--json",
                                           "--measure=false", "--from-stats=" + stats});
  ASSERT_EQ(planned.exit_code, kExitOk) << planned.err;
  const nlohmann::json json = nlohmann::json::parse(planned.out);
  int64_t experts = 0;
  for (const nlohmann::json& worker : json["plan"]["workers"]) {
    experts += worker["experts"].get<int64_t>();
  }
  EXPECT_EQ(experts, 32 + 2);
}

TEST(PlacementCommandTest, ShowsWhoHoldsWhat) {
  const std::string file = WriteTemp(
      "show.textproto", "workers { worker_id: \"a\" shards { layers: \"0-3\" experts: \"0-7\" } }");
  const CommandOutput shown = Placement({"show", file});
  ASSERT_EQ(shown.exit_code, kExitOk) << shown.err;
  EXPECT_THAT(shown.out,
              AllOf(HasSubstr("983 kB"), HasSubstr("100.0 %"), HasSubstr("layers 0-3: 0-7")));
  EXPECT_EQ(nlohmann::json::parse(Placement({"show", file, "--json"}).out)["workers"][0]["bytes"],
            983040);
}

TEST(PlacementCommandTest, CheckSaysWhatIsWrongWithExitCode1) {
  const std::string file = WriteTemp("wrong.textproto",
                                     "workers { worker_id: \"a\" memory_budget_bytes: 9 shards { "
                                     "layers: \"0-3\" experts: \"0-5\" } }");
  const CommandOutput checked = Placement({"check", file});
  EXPECT_EQ(checked.exit_code, kExitFailed);
  EXPECT_THAT(checked.err, AllOf(HasSubstr("worker \"a\": over its budget"),
                                 HasSubstr("placed nowhere: layers 0-3: 6-7")));
  const CommandOutput json = Placement({"check", file, "--json"});
  EXPECT_EQ(json.exit_code, kExitFailed);
  EXPECT_FALSE(nlohmann::json::parse(json.out)["ok"]);
  EXPECT_EQ(nlohmann::json::parse(json.out)["errors"].size(), 2u);
}

TEST(PlacementCommandTest, CheckKnowsTheWorkersThatWillRun) {
  const std::string file =
      WriteTemp("names.textproto",
                "workers { worker_id: \"a\" shards { layers: \"0-3\" experts: \"0-7\" } }");
  const CommandOutput checked = Placement({"check", file, "--workers=b"});
  EXPECT_EQ(checked.exit_code, kExitFailed);
  EXPECT_THAT(checked.err,
              AllOf(HasSubstr("will not run: a"), HasSubstr("does not name these workers: b")));
}

TEST(PlacementCommandTest, RefusesWhatCannotBePlanned) {
  const CommandOutput small = Placement({"plan", "--workers=2", "--budget=100KB"});
  EXPECT_EQ(small.exit_code, kExitFailed);
  EXPECT_THAT(small.err, HasSubstr("do not fit"));
  EXPECT_EQ(Placement({"plan", "--workers=2", "--budget=lots"}).exit_code, kExitUsage);
  EXPECT_EQ(Placement({"plan", "--workers=2", "--budget=1GB,1GB,1GB"}).exit_code, kExitUsage);
  EXPECT_EQ(Placement({"plan", "--workers=2", "--replicas=many"}).exit_code, kExitUsage);
  EXPECT_EQ(Placement({"plan", "--workers=2", "--replicas=3"}).exit_code, kExitFailed);
  EXPECT_EQ(testing::RunCcoe({"placement", "plan", "--workers=2",
                              "--model=" + testing::GoldenFolder("llama-gqa")},
                             {RegisterPlacement})
                .exit_code,
            kExitFailed);
}

}  // namespace

}  // namespace ccoe::cli
