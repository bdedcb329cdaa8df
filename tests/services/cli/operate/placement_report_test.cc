// SPDX-License-Identifier: Apache-2.0
#include "services/cli/operate/placement_report.h"

#include <string>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "runtime/placement/plan.h"
#include "tests/runtime/placement/moe_specs.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::ccoe::testing::StatusIs;
using kernels::DType;
using ::testing::HasSubstr;

class PlacementReportTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(plan_, placement::ParsePlan(R"(
      workers { worker_id: "a" memory_budget_bytes: 200000 shards { layers: "1-2" experts: "0-1" } }
      workers { worker_id: "b" shards { layers: "1-2" experts: "1-2" } }
      with_backbone { shards { layers: "1-2" experts: "3" } })",
                                                     "f"));
  }

  const model::ModelSpec spec_ = placement::MoeModel(1, 2, 4);
  placement::Plan plan_;
  placement::ExpertLoads loads_;
};

TEST_F(PlacementReportTest, TheTableHasALineForEveryHolder) {
  const std::string table = PlacementTable({plan_, spec_, kernels::DType::kBF16, loads_});
  EXPECT_THAT(table, HasSubstr("a                       4     123 kB     200 kB    37.5 %  layers "
                               "1-2: 0-1\n"));
  EXPECT_THAT(table, HasSubstr("b                       4     123 kB       none    37.5 %"));
  EXPECT_THAT(table, HasSubstr("(with backbone)         2    61.4 kB       none    25.0 %"));
}

TEST_F(PlacementReportTest, ReplicasShareTheLoadThatWasMeasured) {
  loads_.tokens = {{1, {10, 60, 20, 10}}, {2, {10, 60, 20, 10}}};
  const nlohmann::json json = PlacementJson({plan_, spec_, kernels::DType::kBF16, loads_});
  EXPECT_NEAR(json["workers"][0]["load"].get<double>(), 0.4, 1e-9);
  EXPECT_NEAR(json["workers"][1]["load"].get<double>(), 0.5, 1e-9);
  EXPECT_NEAR(json["with_backbone"]["load"].get<double>(), 0.1, 1e-9);
  EXPECT_EQ(json["workers"][0]["worker_id"], "a");
  EXPECT_EQ(json["workers"][0]["experts"], 4);
  EXPECT_EQ(json["workers"][0]["bytes"], 4 * placement::kExpertBytes);
  EXPECT_EQ(json["workers"][0]["memory_budget_bytes"], 200000);
  EXPECT_EQ(json["workers"][0]["shards"][0]["layers"], "1-2");
  EXPECT_EQ(json["with_backbone"]["shards"][0]["experts"], "3");
}

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
