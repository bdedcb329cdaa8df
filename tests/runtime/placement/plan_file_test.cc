#include "runtime/placement/plan_file.h"

#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "ccoe/v1/placement.pb.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::placement {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kText[] = R"(# by hand
model_fingerprint: "abc"
workers {
  worker_id: "expert-0"
  memory_budget_bytes: 12884901888
  shards { layers: "0-31" experts: "0-3,7" }
  shards { layers: "32" experts: "5" }
}
workers {
  worker_id: "expert-1"
  shards { layers: "0-31" experts: "4-6" }
}
with_backbone {
  shards { layers: "32" experts: "0-4,6-7" }
}
)";

std::string MistakesOf(const std::string& text) {
  const auto plan = ParsePlan(text, "plan.textproto");
  EXPECT_THAT(plan, StatusIs(absl::StatusCode::kInvalidArgument));
  return std::string(plan.status().message());
}

TEST(PlanFileTest, ReadsWorkersBudgetsAndShards) {
  ASSERT_OK_AND_ASSIGN(const Plan plan, ParsePlan(kText, "plan.textproto"));
  EXPECT_EQ(plan.model_fingerprint, "abc");
  ASSERT_EQ(plan.workers.size(), 2u);
  EXPECT_EQ(plan.workers[0].worker_id, "expert-0");
  EXPECT_EQ(plan.workers[0].memory_budget_bytes, int64_t{12} << 30);
  EXPECT_EQ(plan.workers[0].shard.size(), 32 * 5 + 1);
  EXPECT_TRUE(plan.workers[0].shard.Contains(31, 7));
  EXPECT_TRUE(plan.workers[0].shard.Contains(32, 5));
  EXPECT_FALSE(plan.workers[0].shard.Contains(32, 0));
  EXPECT_TRUE(plan.with_backbone.Contains(32, 7));
  EXPECT_EQ(plan.Find("expert-1"), &plan.workers[1]);
  EXPECT_EQ(plan.Find("expert-2"), nullptr);
}

TEST(PlanFileTest, WhatIsWrittenReadsBackTheSame) {
  ASSERT_OK_AND_ASSIGN(const Plan plan, ParsePlan(kText, "f"));
  const std::string text = PlanText(plan);
  EXPECT_EQ(text, std::string(kText).substr(std::string("# by hand\n").size()));
  ASSERT_OK_AND_ASSIGN(const Plan again, ParsePlan(text, "f"));
  EXPECT_EQ(PlanText(again), text);
  ASSERT_OK_AND_ASSIGN(const Plan wired, PlanFromProto(PlanToProto(plan)));
  EXPECT_EQ(PlanText(wired), text);
}

TEST(PlanFileTest, NamesLineAndColumnOfSyntaxErrors) {
  EXPECT_THAT(MistakesOf("workers {\n  worker_id: 7\n}\n"), HasSubstr("plan.textproto:2:14: "));
  EXPECT_THAT(MistakesOf("workers {\n  worker: \"a\"\n}\n"),
              AllOf(HasSubstr("plan.textproto:2:"), HasSubstr("worker")));
}

TEST(PlanFileTest, NamesThePlaceOfEveryMistake) {
  const std::string mistakes = MistakesOf(R"(workers {
  worker_id: "a"
  memory_budget_bytes: -1
  shards { layers: "0-3" experts: "7-4" }
  shards { layers: "0" }
}
workers { shards { layers: "x" experts: "1" } }
workers { worker_id: "a" }
workers {
  worker_id: "b"
  shards { layers: "0-3" experts: "1" }
  shards { layers: "2" experts: "0-1" }
}
with_backbone { shards { layers: "1" experts: "-2" } }
)");
  EXPECT_THAT(mistakes, HasSubstr("plan.textproto:3:3: worker \"a\": memory_budget_bytes:"));
  EXPECT_THAT(mistakes, HasSubstr("plan.textproto:4:26: worker \"a\": experts: "));
  EXPECT_THAT(mistakes, HasSubstr("plan.textproto:5:3: worker \"a\": experts: "));
  EXPECT_THAT(mistakes, HasSubstr("plan.textproto:7:1: worker 2: worker_id: expected 1 to 128"));
  EXPECT_THAT(mistakes, HasSubstr("plan.textproto:7:20: worker 2: layers: "));
  EXPECT_THAT(mistakes,
              HasSubstr("plan.textproto:8:11: worker \"a\": stands twice, also as worker 1"));
  EXPECT_THAT(mistakes,
              HasSubstr("plan.textproto:12:3: worker \"b\": layer 2, expert 1 stands twice"));
  EXPECT_THAT(mistakes, HasSubstr("plan.textproto:14:38: with_backbone: experts: "));
}

TEST(PlanFileTest, BoundsWhatAFileMayHold) {
  EXPECT_THAT(MistakesOf(absl::StrCat("workers { worker_id: \"a\" shards { layers: \"0-",
                                      kHighestLayer, "\" experts: \"0-", kHighestExpert, "\" } }")),
              HasSubstr("placed experts in all"));
  EXPECT_THAT(MistakesOf("with_backbone { shards { layers: \"4096\" experts: \"0\" } }"),
              HasSubstr("4095"));
  EXPECT_THAT(MistakesOf(std::string(kMaxPlanFileBytes + 1, '\n')), HasSubstr("bytes, found"));
  std::string many;
  for (int i = 0; i <= kMaxPlannedWorkers; ++i)
    many += absl::StrCat("workers{worker_id:\"", i, "\"}");
  EXPECT_THAT(MistakesOf(many), HasSubstr("workers: expected at most 4096, found 4097"));
}

TEST(PlanFileTest, RefusesAFileNestedAHundredThousandDeep) {
  testing::TempFolder folder;
  const std::string path = folder / "plan.textproto";
  {
    std::ofstream file(path);
    for (int i = 0; i < 100'000; ++i) file << "workers{shards{";
  }
  EXPECT_THAT(ReadPlan(path),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("plan.textproto:1:"), HasSubstr("too deep"))));
}

TEST(PlanFileTest, ReadsFilesAndNamesMissingOnes) {
  testing::TempFolder folder;
  const std::string path = folder / "plan.textproto";
  EXPECT_THAT(ReadPlan(path), StatusIs(absl::StatusCode::kNotFound, HasSubstr(path)));
  std::ofstream(path) << kText;
  EXPECT_OK(ReadPlan(path));
}

TEST(PlanFileTest, AMessageFromTheWireIsCheckedToo) {
  v1::PlacementPlan proto;
  proto.add_workers()->add_shards()->set_layers("nonsense");
  EXPECT_THAT(PlanFromProto(proto),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("placement: worker 1")));
}

}  // namespace
}  // namespace ccoe::placement
