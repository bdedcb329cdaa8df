// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/parallel.h"

#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace ccoe {
namespace {

TEST(ThreadTeamTest, RunsEveryTaskOnce) {
  for (int threads : {1, 2, 5}) {
    ThreadTeam team(threads);
    EXPECT_EQ(team.size(), threads);
    for (int64_t tasks : {0, 1, 2, 1000}) {
      std::vector<std::atomic<int>> runs(tasks);
      team.Run(tasks, [&runs](int64_t task) { ++runs[task]; });
      for (int64_t i = 0; i < tasks; ++i) EXPECT_EQ(runs[i].load(), 1) << i;
    }
  }
}

TEST(ThreadTeamTest, ServesSeveralCallersAtOnce) {
  ThreadTeam team(3);
  std::atomic<int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&team, &sum] {
      for (int round = 0; round < 200; ++round) team.Run(10, [&sum](int64_t task) { sum += task; });
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(sum.load(), 4 * 200 * 45);
}

TEST(AvailableCoresTest, IsAtLeastOne) { EXPECT_GE(AvailableCores(), 1); }

}  // namespace
}  // namespace ccoe
