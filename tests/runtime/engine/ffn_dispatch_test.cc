// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/ffn_dispatch.h"

#include <algorithm>
#include <set>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int32_t kHere = FfnTable::kHere;

// Three rows of layer 1: experts {0, 2}, {1, 2}, {0, 3}.
model::RoutedRows ThreeRows() {
  model::RoutedRows routed;
  routed.layer = 1;
  routed.offsets = {0, 2, 4, 6};
  routed.experts = {0, 2, 1, 2, 0, 3};
  routed.weights = {0.1f, 0.2f, 0.3f, 0.4f, 0.5f, 0.6f};
  return routed;
}

FfnTable TableOf(std::vector<std::vector<int32_t>> holders, int peers) {
  return FfnTable(std::vector<FfnPeer>(static_cast<size_t>(peers)), {{}, std::move(holders)});
}

const std::vector<int32_t> kAllPairs = {0, 1, 2, 3, 4, 5};

TEST(FfnDispatchTest, ARowGoesOnceToEachWorkerWithTheExpertsItNeedsThere) {
  const FfnTable table = TableOf({{0}, {1}, {0}, {1}}, 2);
  const FfnDispatchPlan plan = PlanFfnDispatch(ThreeRows(), kAllPairs, table, {true, true}, {});
  ASSERT_THAT(plan.parts, SizeIs(2));
  EXPECT_THAT(plan.lost, IsEmpty());
  const FfnPart& first = plan.parts[0];
  EXPECT_EQ(first.peer, 0);
  EXPECT_THAT(first.rows, ElementsAre(0, 1, 2));
  EXPECT_THAT(first.swap.offsets, ElementsAre(0, 2, 3, 4));
  EXPECT_THAT(first.swap.experts, ElementsAre(0, 2, 2, 0));
  EXPECT_THAT(first.swap.weights, ElementsAre(0.1f, 0.2f, 0.4f, 0.5f));
  EXPECT_THAT(first.pairs, ElementsAre(0, 1, 3, 4));
  EXPECT_EQ(first.swap.layer, 1);
  EXPECT_THAT(plan.parts[1].rows, ElementsAre(1, 2));
  EXPECT_THAT(plan.parts[1].swap.experts, ElementsAre(1, 3));
}

TEST(FfnDispatchTest, WhatIsWithTheBackboneStaysUnlessToldOtherwise) {
  const FfnTable table = TableOf({{0, kHere}, {0}, {0}, {0}}, 1);
  const FfnDispatchPlan plan = PlanFfnDispatch(ThreeRows(), kAllPairs, table, {true}, {});
  ASSERT_THAT(plan.parts, SizeIs(2));
  EXPECT_EQ(plan.parts[0].peer, kHere);
  EXPECT_THAT(plan.parts[0].pairs, ElementsAre(0, 4));
  FfnDispatchOptions elsewhere;
  elsewhere.here = false;
  EXPECT_THAT(PlanFfnDispatch(ThreeRows(), kAllPairs, table, {true}, elsewhere).parts, SizeIs(1));
}

TEST(FfnDispatchTest, ReplicasShareTheLoadAndAnExpertIsNotTornApart) {
  const FfnTable table = TableOf({{0, 1}, {0, 1}, {0, 1}, {0, 1}}, 2);
  const FfnDispatchPlan plan = PlanFfnDispatch(ThreeRows(), kAllPairs, table, {true, true}, {});
  ASSERT_THAT(plan.parts, SizeIs(2));
  std::set<int32_t> seen;
  for (const FfnPart& part : plan.parts) {
    EXPECT_EQ(part.swap.pairs(), 3);
    for (const int32_t expert :
         std::set<int32_t>(part.swap.experts.begin(), part.swap.experts.end())) {
      EXPECT_TRUE(seen.insert(expert).second) << "expert " << expert << " on both";
    }
  }
}

TEST(FfnDispatchTest, AReplicaTakesOverFromAWorkerThatIsGone) {
  const FfnTable table = TableOf({{0, 1}, {0, 1}, {0, 1}, {0}}, 2);
  const FfnDispatchPlan plan = PlanFfnDispatch(ThreeRows(), kAllPairs, table, {false, true}, {});
  ASSERT_THAT(plan.parts, SizeIs(1));
  EXPECT_EQ(plan.parts[0].peer, 1);
  EXPECT_THAT(plan.parts[0].pairs, ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(plan.lost, ElementsAre(5));
}

TEST(FfnDispatchTest, AnExpertThatIsNowhereIsLost) {
  const FfnTable empty;
  EXPECT_THAT(PlanFfnDispatch(ThreeRows(), kAllPairs, empty, {}, {}).lost, SizeIs(6));
  const FfnTable table = TableOf({{0}, {0}}, 1);  // knows two experts only
  EXPECT_THAT(PlanFfnDispatch(ThreeRows(), kAllPairs, table, {true}, {}).lost,
              ElementsAre(1, 3, 5));
}

TEST(FfnDispatchTest, LargePartsAreCut) {
  const FfnTable table = TableOf({{0}, {0}, {0}, {0}}, 1);
  FfnDispatchOptions options;
  options.max_part_pairs = 3;
  const FfnDispatchPlan plan = PlanFfnDispatch(ThreeRows(), kAllPairs, table, {true}, options);
  ASSERT_THAT(plan.parts, SizeIs(2));
  EXPECT_THAT(plan.parts[0].rows, ElementsAre(0, 1));
  EXPECT_THAT(plan.parts[0].swap.offsets, ElementsAre(0, 2, 3));
  EXPECT_THAT(plan.parts[1].rows, ElementsAre(1, 2));
  EXPECT_THAT(plan.parts[1].pairs, ElementsAre(3, 4, 5));
}

TEST(FfnDispatchTest, ContributionsStandInTheOrderOfPairsOrOfParts) {
  const model::RoutedRows routed = ThreeRows();
  const FfnTable table = TableOf({{0}, {1}, {0}, {1}}, 2);
  const FfnDispatchPlan plan = PlanFfnDispatch(routed, kAllPairs, table, {true, true}, {});
  const FfnPart* parts[] = {&plan.parts[0], &plan.parts[1]};

  const CombineOrder single = OrderOf(routed, parts, /*combine=*/false);
  EXPECT_THAT(single.offsets, ElementsAre(0, 2, 4, 6));
  EXPECT_THAT(single.places, ElementsAre(ElementsAre(0, 1, 3, 4), ElementsAre(2, 5)));

  const CombineOrder combined = OrderOf(routed, parts, /*combine=*/true);
  EXPECT_THAT(combined.offsets, ElementsAre(0, 1, 3, 5));
  EXPECT_THAT(combined.places, ElementsAre(ElementsAre(0, 1, 3), ElementsAre(2, 4)));
}

}  // namespace
}  // namespace ccoe::engine
