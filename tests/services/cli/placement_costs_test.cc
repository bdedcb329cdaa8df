#include "services/cli/placement_costs.h"

#include "gtest/gtest.h"
#include "tests/runtime/placement/moe_specs.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::ccoe::testing::StatusIs;
using kernels::DType;
using ::testing::HasSubstr;

TEST(PlacementCostsTest, MeasuresExpertsAndALink) {
  ThreadTeam team(1);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    ASSERT_OK_AND_ASSIGN(const placement::Costs costs,
                         MeasureCosts(placement::MoeModel(1, 1, 4), dtype, DType::kF32, &team));
    EXPECT_GT(costs.expert_seconds_1, 0);
    EXPECT_GT(costs.expert_seconds_128, 0);
    EXPECT_GT(costs.round_trip_seconds, 0);
    EXPECT_GT(costs.bytes_per_second, 0);
  }
}

TEST(PlacementCostsTest, RefusesADenseModel) {
  ThreadTeam team(1);
  EXPECT_THAT(MeasureCosts(placement::MoeModel(2, 0, 0), DType::kF32, DType::kF32, &team),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("none")));
}

}  // namespace
}  // namespace ccoe::cli
