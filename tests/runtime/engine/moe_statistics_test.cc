// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/moe_statistics.h"

#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::engine {
namespace {

using ::ccoe::testing::IsOk;
using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Layer 0 is dense, 1 has 4 experts, 2 has 6.
model::ModelSpec Spec() {
  model::ModelSpec spec;
  spec.layers.resize(3);
  for (int layer : {1, 2}) {
    spec.layers[layer].ffn.kind = model::FfnKind::kMoe;
    spec.layers[layer].ffn.moe.experts = layer == 1 ? 4 : 6;
  }
  return spec;
}

TEST(MoeStatisticsTest, CountsTokensAndPairsOfALayer) {
  MoeStatistics statistics(Spec());
  statistics.Add(1, {0, 2, 4, 4, 7}, {0, 2, 0, 3, 0, 2, 3});  // the third row chose none
  statistics.Add(1, {0, 1}, {1});
  const MoeSnapshot snapshot = statistics.Snapshot(/*with_pairs=*/true);
  ASSERT_THAT(snapshot.layers, SizeIs(2));
  const LayerMoeCounts& layer = snapshot.layers[0];
  EXPECT_EQ(layer.layer, 1);
  EXPECT_EQ(layer.rows, 5u);
  EXPECT_THAT(layer.tokens, ElementsAre(3, 1, 2, 2));
  // (0,1) (0,2) (0,3) (1,2) (1,3) (2,3)
  EXPECT_THAT(layer.pairs, ElementsAre(0, 2, 2, 0, 0, 1));
  EXPECT_EQ(statistics.routed_pairs(), 8u);
}

TEST(MoeStatisticsTest, LayersWithoutRowsHaveZeros) {
  MoeStatistics statistics(Spec());
  statistics.Add(2, {0}, {});
  const MoeSnapshot snapshot = statistics.Snapshot(/*with_pairs=*/true);
  EXPECT_EQ(snapshot.layers[1].rows, 0u);
  EXPECT_THAT(snapshot.layers[1].tokens, AllOf(SizeIs(6), Each(0u)));
  EXPECT_THAT(snapshot.layers[1].pairs, AllOf(SizeIs(15), Each(0u)));
}

TEST(MoeStatisticsTest, PairsAreLeftOutUnlessAskedFor) {
  MoeStatistics statistics(Spec());
  statistics.Add(1, {0, 2}, {0, 2});
  EXPECT_THAT(statistics.Snapshot(/*with_pairs=*/false).layers[0].pairs, IsEmpty());
}

TEST(MoeStatisticsTest, AfterAResetCountingStartsFromZero) {
  MoeStatistics statistics(Spec());
  statistics.Add(1, {0, 2}, {0, 2});
  EXPECT_EQ(statistics.TakeAndReset().layers[0].rows, 1u);
  statistics.Add(1, {0, 1}, {3});
  const MoeSnapshot snapshot = statistics.Snapshot(/*with_pairs=*/true);
  EXPECT_THAT(snapshot.layers[0].tokens, ElementsAre(0, 0, 0, 1));
  EXPECT_THAT(snapshot.layers[0].pairs, Each(0u));
  EXPECT_EQ(statistics.routed_pairs(), 3u);
}

TEST(MoeStatisticsTest, NoRowIsLostBetweenSnapshotsOfAnotherThread) {
  MoeStatistics statistics(Spec());
  constexpr int kPasses = 2000;
  std::thread engine([&statistics] {
    for (int i = 0; i < kPasses; ++i) statistics.Add(1, {0, 2, 4}, {0, 1, 1, 2});
  });
  MoeSnapshot total;
  uint64_t rows = 0;
  while (rows < 2 * kPasses) {
    ASSERT_OK(Merge(statistics.TakeAndReset(), total));
    rows = total.layers[0].rows;
  }
  engine.join();
  EXPECT_THAT(total.layers[0].tokens, ElementsAre(kPasses, 2 * kPasses, kPasses, 0));
  EXPECT_EQ(total.layers[0].pairs[PairIndex(1, 2, 4)], static_cast<uint64_t>(kPasses));
}

TEST(PairIndexTest, NumbersAllPairsOnce) {
  int64_t next = 0;
  for (int64_t a = 0; a < 7; ++a) {
    for (int64_t b = a + 1; b < 7; ++b) EXPECT_EQ(PairIndex(a, b, 7), next++);
  }
  EXPECT_EQ(next, PairCount(7));
}

TEST(BalancednessTest, IsMeanOverMost) {
  EXPECT_DOUBLE_EQ(Balancedness({5, 5, 5, 5}), 1.0);
  EXPECT_DOUBLE_EQ(Balancedness({8, 0, 0, 0}), 0.25);
  EXPECT_DOUBLE_EQ(Balancedness({4, 2, 2, 0}), 0.5);
  EXPECT_DOUBLE_EQ(Balancedness({0, 0}), 1.0);
  EXPECT_DOUBLE_EQ(Balancedness({}), 1.0);
}

TEST(HotExpertsTest, AreThoseWithTheGreatestShareOfTheirLayersRows) {
  MoeSnapshot snapshot;
  snapshot.layers = {{1, 100, {50, 10, 40, 0}, {}}, {2, 10, {9, 5}, {}}};
  const std::vector<HotExpert> hot = HotExperts(snapshot, 3);
  ASSERT_THAT(hot, SizeIs(3));
  EXPECT_EQ(hot[0].layer, 2);
  EXPECT_EQ(hot[0].expert, 0);
  EXPECT_DOUBLE_EQ(hot[0].share, 0.9);
  EXPECT_EQ(hot[1].layer, 1);  // as hot as the next; the lower layer comes first
  EXPECT_EQ(hot[1].tokens, 50u);
  EXPECT_EQ(hot[2].layer, 2);
  EXPECT_THAT(HotExperts(snapshot, 100), SizeIs(5));
  EXPECT_THAT(HotExperts(MoeSnapshot(), 5), IsEmpty());
}

TEST(MostCoActivatedTest, IsThePairThatMostRowsChose) {
  const LayerMoeCounts layer = {1, 10, {5, 5, 5, 5}, {0, 2, 3, 3, 0, 1}};
  const ExpertPair pair = MostCoActivated(layer);
  EXPECT_EQ(pair.first, 0);
  EXPECT_EQ(pair.second, 3);
  EXPECT_EQ(pair.rows, 3u);
  EXPECT_EQ(MostCoActivated({1, 10, {5, 5}, {}}).rows, 0u);
}

TEST(MergeTest, AddsTheCountsOfAnotherWorker) {
  MoeSnapshot total;
  ASSERT_OK(Merge({{{2, 3, {1, 2}, {1}}}}, total));
  ASSERT_OK(Merge({{{1, 5, {5, 0}, {0}}, {2, 4, {1, 1}, {2}}}}, total));
  ASSERT_THAT(total.layers, SizeIs(2));
  EXPECT_EQ(total.layers[0].layer, 1);
  EXPECT_EQ(total.layers[1].rows, 7u);
  EXPECT_THAT(total.layers[1].tokens, ElementsAre(2, 3));
  EXPECT_THAT(total.layers[1].pairs, ElementsAre(3));
}

TEST(MergeTest, DropsPairsThatOneDoesNotKnow) {
  MoeSnapshot total = {{{2, 3, {1, 2}, {1}}}};
  ASSERT_OK(Merge({{{2, 4, {1, 1}, {}}}}, total));
  EXPECT_THAT(total.layers[0].tokens, ElementsAre(2, 3));
  EXPECT_THAT(total.layers[0].pairs, IsEmpty());
}

TEST(MergeTest, RefusesCountsOfAnotherModel) {
  MoeSnapshot total = {{{2, 3, {1, 2}, {1}}}};
  EXPECT_THAT(Merge({{{1, 3, {1}, {}}, {2, 4, {1, 1, 1}, {}}}}, total),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("layer 2"), HasSubstr("2 experts"), HasSubstr("found 3"))));
  EXPECT_THAT(total.layers, SizeIs(1));
}

}  // namespace
}  // namespace ccoe::engine
