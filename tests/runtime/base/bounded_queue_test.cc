// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/bounded_queue.h"

#include <memory>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gtest/gtest.h"

namespace ccoe {
namespace {

TEST(BoundedQueueTest, RefusesWhenFullAndKeepsTheItemWithTheCaller) {
  BoundedQueue<std::unique_ptr<int>> queue(1);
  auto first = std::make_unique<int>(1);
  auto second = std::make_unique<int>(2);
  EXPECT_TRUE(queue.TryPush(std::move(first)));
  EXPECT_FALSE(queue.TryPush(std::move(second)));
  EXPECT_FALSE(queue.Push(std::move(second), absl::Now() + absl::Milliseconds(1)));
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(*second, 2);
}

TEST(BoundedQueueTest, GivesOutWhatIsQueuedAfterClose) {
  BoundedQueue<int> queue(4);
  queue.TryPush(1);
  queue.TryPush(2);
  queue.Close();
  EXPECT_FALSE(queue.TryPush(3));
  EXPECT_EQ(queue.Pop(), 1);
  EXPECT_EQ(queue.Pop(), 2);
  EXPECT_EQ(queue.Pop(), std::nullopt);
}

TEST(BoundedQueueTest, LosesAndDoublesNothingBetweenThreads) {
  constexpr int kItems = 2000;
  BoundedQueue<int> queue(7);
  std::vector<int> seen(2 * kItems);
  std::thread producers[2];
  for (int p = 0; p < 2; ++p) {
    producers[p] = std::thread([&queue, p] {
      for (int i = 0; i < kItems; ++i) EXPECT_TRUE(queue.Push(p * kItems + i));
    });
  }
  for (int i = 0; i < 2 * kItems; ++i) ++seen[*queue.Pop()];
  for (std::thread& producer : producers) producer.join();
  EXPECT_EQ(seen, std::vector<int>(2 * kItems, 1));
}

}  // namespace
}  // namespace ccoe
