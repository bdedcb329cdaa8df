// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/directory.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(FfnTableTest, GivesEachExpertsHolders) {
  const FfnTable table({{"a", nullptr}, {"b", nullptr}},
                       {{}, {{FfnTable::kHere}, {0, 1}}, {}, {{}, {1}, {FfnTable::kHere, 0}}});
  EXPECT_EQ(table.layers(), 4);
  EXPECT_EQ(table.experts(0), 0);
  EXPECT_EQ(table.experts(1), 2);
  EXPECT_EQ(table.experts(3), 3);
  EXPECT_THAT(table.HoldersOf(1, 0), ElementsAre(FfnTable::kHere));
  EXPECT_THAT(table.HoldersOf(1, 1), ElementsAre(0, 1));
  EXPECT_THAT(table.HoldersOf(3, 0), IsEmpty());  // nowhere now
  EXPECT_THAT(table.HoldersOf(3, 1), ElementsAre(1));
  EXPECT_THAT(table.HoldersOf(3, 2), ElementsAre(FfnTable::kHere, 0));
}

TEST(FfnTableTest, WhatIsNotThereHasNoHolders) {
  const FfnTable table({}, {{{FfnTable::kHere}}});
  EXPECT_EQ(FfnTable().layers(), 0);
  EXPECT_EQ(table.experts(-1), 0);
  EXPECT_EQ(table.experts(1), 0);
  EXPECT_THAT(table.HoldersOf(0, -1), IsEmpty());
  EXPECT_THAT(table.HoldersOf(0, 1), IsEmpty());
  EXPECT_THAT(table.HoldersOf(7, 0), IsEmpty());
}

}  // namespace
}  // namespace ccoe::engine
