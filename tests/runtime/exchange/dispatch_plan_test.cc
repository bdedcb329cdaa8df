#include "runtime/exchange/dispatch_plan.h"

#include <numeric>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::exchange {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(DispatchPlanTest, GroupsRowsByDestinationInTheBatchsOrder) {
  const std::vector<DispatchItem> items = {{1, 2, 1}, {0, 1, 1}, {1, 3, 3}, {0, 2, 0}};
  const DispatchPlan plan = PlanDispatch(items, 3);
  ASSERT_EQ(plan.groups.size(), 3);
  EXPECT_THAT(plan.groups[0].sequences, ElementsAre(1, 3));
  EXPECT_THAT(plan.groups[0].rows, ElementsAre(2, 6, 7));
  EXPECT_THAT(plan.groups[0].returned_rows, ElementsAre(2));
  EXPECT_THAT(plan.groups[0].row_offsets, ElementsAre(0, 1, 3));
  EXPECT_THAT(plan.groups[0].returned_offsets, ElementsAre(0, 1, 1));
  EXPECT_THAT(plan.groups[1].sequences, ElementsAre(0, 2));
  EXPECT_THAT(plan.groups[1].rows, ElementsAre(0, 1, 3, 4, 5));
  EXPECT_THAT(plan.groups[1].returned_rows, ElementsAre(1, 3, 4, 5));
  EXPECT_THAT(plan.groups[1].returned_offsets, ElementsAre(0, 1, 4));
  EXPECT_THAT(plan.groups[2].rows, IsEmpty());
  EXPECT_THAT(plan.groups[2].row_offsets, ElementsAre(0));
  EXPECT_THAT(plan.group_offsets, ElementsAre(0, 3, 8, 8));
  EXPECT_THAT(plan.inverse, ElementsAre(3, 4, 0, 5, 6, 7, 1, 2));
}

TEST(DispatchPlanTest, AnEmptyBatchHasEmptyGroups) {
  const DispatchPlan plan = PlanDispatch({}, 2);
  EXPECT_EQ(plan.groups.size(), 2);
  EXPECT_THAT(plan.inverse, IsEmpty());
  EXPECT_THAT(PlanDispatch({}, 0).group_offsets, ElementsAre(0));
}

TEST(DispatchPlanTest, GatherThenInverseIsTheIdentityOnAnyBatch) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    const int32_t destinations = 1 + random() % 5;
    std::vector<DispatchItem> items(random() % 12);
    int64_t rows = 0, returned = 0;
    for (DispatchItem& item : items) {
      item.destination = random() % destinations;
      item.row_count = 1 + random() % 7;
      item.returned_rows = random() % (item.row_count + 1);
      rows += item.row_count;
      returned += item.returned_rows;
    }
    const DispatchPlan plan = PlanDispatch(items, destinations);
    std::vector<int32_t> grouped;
    int64_t planned_returns = 0;
    for (const DispatchGroup& group : plan.groups) {
      grouped.insert(grouped.end(), group.rows.begin(), group.rows.end());
      planned_returns += static_cast<int64_t>(group.returned_rows.size());
    }
    ASSERT_EQ(static_cast<int64_t>(grouped.size()), rows);
    ASSERT_EQ(planned_returns, returned);
    for (int64_t row = 0; row < rows; ++row) ASSERT_EQ(grouped[plan.inverse[row]], row);
  }
}

}  // namespace
}  // namespace ccoe::exchange
