// SPDX-License-Identifier: Apache-2.0
#include "kernels/serving_thread.h"

#include <thread>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"

namespace ccoe::kernels {
namespace {

TEST(ServingThreadTest, OnlyWhatAThreadThatServesAllocatesIsCounted) {
  const int64_t before = AllocationsWhileServing();
  EXPECT_FALSE(ServingThread::here());
  NoteAllocation();
  std::thread([] {
    ServingThread serving;
    EXPECT_TRUE(ServingThread::here());
    std::thread([] { EXPECT_FALSE(ServingThread::here()); }).join();
    NoteAllocation();
  }).join();
  EXPECT_EQ(AllocationsWhileServing(), before + 1);
  {
    ServingThread serving;
    EXPECT_TRUE(CpuDevice().Allocate(100).ok());
  }
  EXPECT_TRUE(CpuDevice().Allocate(100).ok());
  EXPECT_EQ(AllocationsWhileServing(), before + 2);
}

}  // namespace
}  // namespace ccoe::kernels
