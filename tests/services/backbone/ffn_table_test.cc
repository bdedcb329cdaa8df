// SPDX-License-Identifier: Apache-2.0
#include "services/backbone/ffn_table.h"

#include <memory>
#include <set>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::services {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

model::FfnShard Shard(int32_t layer, const std::set<int32_t>& experts) {
  model::FfnShard shard;
  for (const int32_t expert : experts) shard.Add(layer, expert);
  return shard;
}

TEST(FfnTableTest, IndexesHoldersByLayerAndExpert) {
  const model::FfnShard all = Shard(2, {0, 1, 2});
  const auto table = BuildFfnTable(
      all, Shard(2, {1}), {{"a", nullptr, Shard(2, {0, 1})}, {"b", nullptr, Shard(2, {0})}});
  ASSERT_EQ(table->peers.size(), 2u);
  ASSERT_EQ(table->layers(), 3);
  EXPECT_EQ(table->experts(0), 0);
  EXPECT_EQ(table->experts(2), 3);
  EXPECT_THAT(table->HoldersOf(2, 0), ElementsAre(0, 1));
  EXPECT_THAT(table->HoldersOf(2, 1), ElementsAre(engine::FfnTable::kHere, 0));
  EXPECT_THAT(table->HoldersOf(2, 2), IsEmpty()) << "nowhere now";
  EXPECT_THAT(table->HoldersOf(2, 3), IsEmpty()) << "none";
}

TEST(FfnTableTest, PassesOverWhatTheModelDoesNotHave) {
  const auto table =
      BuildFfnTable(Shard(0, {0, 1}), {},
                    {{"stranger", nullptr, Shard(5, {0})}, {"a", nullptr, Shard(0, {1, 9})}});
  ASSERT_EQ(table->peers.size(), 1u);
  EXPECT_EQ(table->peers[0].worker_id, "a");
  EXPECT_EQ(table->experts(0), 2);
  EXPECT_THAT(table->HoldersOf(0, 0), IsEmpty());
  EXPECT_THAT(table->HoldersOf(0, 1), ElementsAre(0));
}

TEST(FfnTableTest, ADenseModelHasAnEmptyTable) {
  EXPECT_EQ(BuildFfnTable({}, {}, {})->layers(), 0);
}

TEST(FfnTableTest, NamesTheLastHolderOfWhatIsNowhere) {
  const auto table = BuildFfnTable(Shard(0, {0, 1}), {}, {{"a", nullptr, Shard(0, {0})}},
                                   {{"b", "the link is closed", Shard(0, {0, 1, 7})}});
  ASSERT_EQ(table->gone.size(), 1u);
  EXPECT_EQ(table->gone.at({0, 1}), "expert worker b (the link is closed)");
}

TEST(FfnTableTest, NamesAllWhoHeldWhatIsNowhere) {
  const auto table = BuildFfnTable(
      Shard(0, {0}), {}, {},
      {{"a", "it has left", Shard(0, {0})}, {"b", "the link is closed", Shard(0, {0})}});
  EXPECT_EQ(table->gone.at({0, 0}),
            "expert worker a (it has left), expert worker b (the link is closed)");
}

TEST(FfnTableTest, HoldersOfAnExpertAreOfOneNumericsClass) {
  const model::FfnShard all = Shard(0, {0, 1, 2, 3});
  const auto table = BuildFfnTable(all, Shard(0, {3}),
                                   {{"a", nullptr, Shard(0, {0, 1, 3}), "other"},
                                    {"b", nullptr, Shard(0, {0, 2}), "ours"},
                                    {"c", nullptr, Shard(0, {0, 1, 2}), "another"},
                                    {"d", nullptr, Shard(0, {0, 3}), "ours"}},
                                   {}, "ours");
  EXPECT_THAT(table->HoldersOf(0, 0), ElementsAre(1, 3));
  EXPECT_THAT(table->HoldersOf(0, 1), ElementsAre(2));
  EXPECT_THAT(table->HoldersOf(0, 2), ElementsAre(1));
  EXPECT_THAT(table->HoldersOf(0, 3), ElementsAre(engine::FfnTable::kHere, 3));
}

}  // namespace
}  // namespace ccoe::services
