// SPDX-License-Identifier: Apache-2.0
#include "runtime/placement/plan.h"

#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "ccoe/v1/placement.pb.h"
#include "gtest/gtest.h"
#include "tests/runtime/placement/moe_specs.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace ccoe::placement {
namespace {

using ::ccoe::testing::StatusIs;
using kernels::DType;
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

TEST(PlanFileTest, ReadsNoMoreOnceAFileNamesTooManyNumbers) {
  std::string text = "with_backbone {";
  for (int i = 0; i < 300; ++i) text += "shards { layers: \"x\" experts: \"0-65535\" }";
  // 20 mistakes of layers are listed; 109 more, and that it is too much, are counted.
  EXPECT_THAT(MistakesOf(text + "}"), HasSubstr("110 more errors"));
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

// One dense layer, then two of four experts; worker a holds experts 0-1, b 2-3.
class CheckPlanTest : public ::testing::Test {
 protected:
  CheckPlanTest() {
    plan_.workers = {{"a", 0, {}}, {"b", 0, {}}};
    for (int32_t layer = 1; layer < 3; ++layer) {
      for (int32_t expert = 0; expert < 4; ++expert) {
        plan_.workers[static_cast<size_t>(expert / 2)].shard.Add(layer, expert);
      }
    }
  }
  absl::Status Check() const { return CheckPlan(plan_, spec_, DType::kBF16); }

  const model::ModelSpec spec_ = MoeModel(1, 2, 4);
  Plan plan_;
};

TEST_F(CheckPlanTest, AcceptsAPlanThatPlacesEverything) {
  EXPECT_OK(Check());
  plan_.workers[0].memory_budget_bytes = 4 * kExpertBytes;
  EXPECT_OK(Check());
  plan_.with_backbone.Add(1, 3);
  EXPECT_OK(Check()) << "replicas are welcome";
}

TEST_F(CheckPlanTest, SaysWhichExpertsArePlacedNowhere) {
  plan_.workers[1].shard = {};
  plan_.workers[1].shard.Add(1, 2);
  EXPECT_THAT(Check(), StatusIs(absl::StatusCode::kInvalidArgument,
                                AllOf(HasSubstr("placed nowhere: layers 1: 3; layers 2: 2-3"),
                                      HasSubstr("3 of 8"))));
  plan_.with_backbone.Add(1, 3);
  plan_.with_backbone.Add(2, 2);
  plan_.with_backbone.Add(2, 3);
  EXPECT_OK(Check());
}

TEST_F(CheckPlanTest, SaysWhichShardTheModelDoesNotHave) {
  plan_.workers[0].shard.Add(0, 1);
  plan_.workers[1].shard.Add(2, 4);
  plan_.with_backbone.Add(9, 0);
  EXPECT_THAT(Check(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("worker \"a\": layer 0"), HasSubstr("worker \"b\": layer 2"),
                             HasSubstr("with_backbone: layer 9"))));
}

TEST_F(CheckPlanTest, SpellsOutTheSumOfAWorkerOverItsBudget) {
  plan_.workers[1].memory_budget_bytes = 100000;
  EXPECT_THAT(Check(), StatusIs(absl::StatusCode::kInvalidArgument,
                                AllOf(HasSubstr("worker \"b\": over its budget"),
                                      HasSubstr("4 x 30720 = 122880 bytes"),
                                      HasSubstr("memory_budget_bytes is 100000: 22880 too many"))));
  EXPECT_THAT(CheckPlan(plan_, spec_, DType::kF32),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("4 x 61440")));
}

TEST_F(CheckPlanTest, ChecksWorkersWithoutTheModel) {
  EXPECT_OK(CheckWorkers(plan_));
  plan_.workers[1].worker_id = "a";
  EXPECT_THAT(CheckWorkers(plan_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("worker \"a\" stands twice")));
  plan_.workers[1].worker_id = "";
  plan_.workers[0].memory_budget_bytes = -5;
  EXPECT_THAT(Check(), StatusIs(absl::StatusCode::kInvalidArgument,
                                AllOf(HasSubstr("no worker_id"), HasSubstr("found -5"))));
}

TEST_F(CheckPlanTest, RefusesModelsWithoutFfnExperts) {
  EXPECT_THAT(CheckPlan(plan_, MoeModel(3, 0, 0), DType::kBF16),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("this model has none")));
}

}  // namespace
}  // namespace ccoe::placement
