// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/scratch.h"

#include <cstdint>
#include <thread>

#include "gtest/gtest.h"

namespace ccoe::kernels {
namespace {

TEST(ScratchTest, GrowsAndStaysAligned) {
  Scratch scratch;
  for (int64_t count : {1, 100, 50, 300000}) {
    float* floats = scratch.Floats(count);
    ASSERT_NE(floats, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(floats) % 64, 0u);
    floats[count - 1] = 1.0f;
  }
}

TEST(ScratchTest, DoesNotMoveWhenItIsLargeEnough) {
  Scratch scratch;
  const float* floats = scratch.Floats(100);
  EXPECT_EQ(scratch.Floats(60), floats);
}

TEST(ScratchTest, EveryThreadHasItsOwn) {
  const float* mine = ThreadScratch().Floats(16);
  std::thread([mine] { EXPECT_NE(ThreadScratch().Floats(16), mine); }).join();
}

}  // namespace
}  // namespace ccoe::kernels
