#include "runtime/model/kv_pages.h"

#include <random>
#include <set>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::model {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(KvPagesTest, TakesFreshPagesFromZeroUpAndOnlyAsManyAsNeeded) {
  KvPages pages(8, 4);
  BlockTable table;
  ASSERT_OK(pages.Grow(1, table));
  EXPECT_THAT(table, ElementsAre(0));
  ASSERT_OK(pages.Grow(4, table));
  EXPECT_THAT(table, ElementsAre(0));
  ASSERT_OK(pages.Grow(9, table));
  EXPECT_THAT(table, ElementsAre(0, 1, 2));
  ASSERT_OK(pages.Grow(2, table));
  EXPECT_THAT(table, ElementsAre(0, 1, 2));
  EXPECT_EQ(pages.used_pages(), 3);
}

TEST(KvPagesTest, ChangesNothingWhenTooFewPagesAreFree) {
  KvPages pages(3, 4);
  BlockTable first, second;
  ASSERT_OK(pages.Grow(8, first));
  EXPECT_FALSE(pages.CanGrow(5, second));
  EXPECT_THAT(pages.Grow(5, second),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("5 tokens need 2 more pages of 4 tokens, 1 of 3 are free")));
  EXPECT_THAT(second, IsEmpty());
  EXPECT_EQ(pages.free_pages(), 1);
  EXPECT_TRUE(pages.CanGrow(4, second));
  EXPECT_OK(pages.Grow(4, second));
}

TEST(KvPagesTest, ShrinkKeepsThePageThatHoldsTheLastToken) {
  KvPages pages(4, 4);
  BlockTable table;
  ASSERT_OK(pages.Grow(16, table));
  pages.Shrink(5, table);
  EXPECT_THAT(table, ElementsAre(0, 1));
  pages.Shrink(4, table);
  EXPECT_THAT(table, ElementsAre(0));
  pages.Free(table);
  EXPECT_THAT(table, IsEmpty());
  EXPECT_EQ(pages.free_pages(), 4);
}

TEST(KvPagesTest, NeverGivesAPageToTwoTables) {
  KvPages pages(64, 3);
  std::mt19937 random(7);
  std::vector<BlockTable> tables(10);
  for (int step = 0; step < 2000; ++step) {
    BlockTable& table = tables[random() % tables.size()];
    if (random() % 2 == 0) {
      pages.Grow(random() % 60, table).IgnoreError();
    } else {
      pages.Shrink(random() % 60, table);
    }
    std::set<int32_t> seen;
    int64_t held = 0;
    for (const BlockTable& each : tables) {
      seen.insert(each.begin(), each.end());
      held += static_cast<int64_t>(each.size());
    }
    ASSERT_EQ(static_cast<int64_t>(seen.size()), held);
    ASSERT_EQ(pages.used_pages(), held);
  }
}

TEST(KvPagesTest, AnEmptyPoolHoldsNothing) {
  KvPages pages(0, 16);
  BlockTable table;
  EXPECT_OK(pages.Grow(0, table));
  EXPECT_THAT(pages.Grow(1, table), StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace ccoe::model
