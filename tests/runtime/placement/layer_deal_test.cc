// SPDX-License-Identifier: Apache-2.0
#include "runtime/placement/layer_deal.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::placement {
namespace {

using ::testing::ElementsAre;

TEST(LayerDealTest, KnowsWhichQuotasCanBeDealt) {
  EXPECT_TRUE(CanDeal({1, 1, 1}, {2, 1}));
  EXPECT_FALSE(CanDeal({1, 1, 1}, {2, 2})) << "more quota than copies";
  EXPECT_FALSE(CanDeal({2, 2}, {3, 1})) << "an expert would be twice on one worker";
  EXPECT_TRUE(CanDeal({3, 1}, {2, 1, 1}));
  EXPECT_FALSE(CanDeal({3, 1}, {2, 2, 0})) << "three copies need three workers";
  EXPECT_FALSE(CanDeal({1, 1}, {3, -1}));
}

TEST(LayerDealTest, EvenSharesAreDealtInBlocks) {
  const std::vector<double> shares(4, 0.25), loads(3, 0.0);
  const std::vector<int32_t> copies(4, 2);
  const std::vector<int64_t> quotas = {3, 3, 2};
  EXPECT_THAT(
      Deal({shares, copies, quotas, loads}),
      ElementsAre(ElementsAre(0, 1), ElementsAre(0, 1), ElementsAre(0, 2), ElementsAre(1, 2)));
}

TEST(LayerDealTest, TheHottestGoesToTheWorkerThatDidTheLeast) {
  const std::vector<double> shares = {0.1, 0.6, 0.3}, loads = {0.5, 0.2, 0.7};
  const std::vector<int32_t> copies(3, 1);
  const std::vector<int64_t> quotas = {1, 1, 1};
  EXPECT_THAT(Deal({shares, copies, quotas, loads}),
              ElementsAre(ElementsAre(2), ElementsAre(1), ElementsAre(0)));
}

TEST(LayerDealTest, MeetsAnyQuotasThatCanBeDealt) {
  std::mt19937 random(5);
  int dealt = 0;
  for (int round = 0; round < 2000; ++round) {
    const size_t workers = 1 + random() % 6, experts = 1 + random() % 10;
    std::vector<int32_t> copies(experts);
    std::vector<double> shares(experts), loads(workers, 0.0);
    for (size_t e = 0; e < experts; ++e) {
      copies[e] = static_cast<int32_t>(1 + random() % workers);
      shares[e] = static_cast<double>(random() % 100);
    }
    // Random quotas of the right sum.
    std::vector<int64_t> quotas(workers, 0);
    for (int64_t left = std::accumulate(copies.begin(), copies.end(), int64_t{0}); left > 0;) {
      const size_t w = random() % workers;
      ++quotas[w];
      --left;
    }
    if (!CanDeal(copies, quotas)) continue;
    ++dealt;
    const auto holders = Deal({shares, copies, quotas, loads});
    ASSERT_EQ(holders.size(), experts);
    for (size_t e = 0; e < experts; ++e) {
      EXPECT_EQ(holders[e].size(), static_cast<size_t>(copies[e]));
      EXPECT_TRUE(std::is_sorted(holders[e].begin(), holders[e].end()));
      EXPECT_EQ(std::adjacent_find(holders[e].begin(), holders[e].end()), holders[e].end());
      for (const int32_t w : holders[e]) --quotas[static_cast<size_t>(w)];
    }
    for (const int64_t left : quotas) EXPECT_EQ(left, 0);
  }
  EXPECT_GT(dealt, 200);
}

}  // namespace
}  // namespace ccoe::placement
