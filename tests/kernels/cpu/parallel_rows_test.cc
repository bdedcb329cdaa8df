// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/parallel_rows.h"

#include <atomic>
#include <vector>

#include "gtest/gtest.h"

namespace ccoe::kernels {
namespace {

TEST(ParallelRowsTest, CoversEveryRowOnce) {
  ThreadTeam team(3);
  for (int64_t rows : {0, 1, 2, 7, 1000}) {
    for (int64_t cost : {0, 1, 1000, 1000000}) {
      std::vector<std::atomic<int>> seen(rows);
      ParallelRows(&team, rows, cost, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) ++seen[r];
      });
      for (const std::atomic<int>& count : seen) EXPECT_EQ(count, 1);
    }
  }
}

TEST(ParallelRowsTest, DoesNotCutSmallWork) {
  ThreadTeam team(3);
  std::atomic<int> calls{0};
  ParallelRows(&team, 100, 10, [&](int64_t, int64_t) { ++calls; });
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace ccoe::kernels
