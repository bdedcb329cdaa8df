#include "runtime/placement/check_plan.h"

#include <string>

#include "gtest/gtest.h"
#include "tests/runtime/placement/moe_specs.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::placement {
namespace {

using ::ccoe::testing::StatusIs;
using kernels::DType;
using ::testing::AllOf;
using ::testing::HasSubstr;

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
