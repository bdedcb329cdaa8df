// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cuda/emulation/block.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/half.h"
#include "tests/kernels/cuda/emulation/order.h"
#include "tests/kernels/cuda/emulation/test_kernels.h"
#include "tests/kernels/cuda/emulation/test_stream.h"

namespace ccoe::emulation {
namespace {

constexpr int kThreads = 96;
constexpr Order kOrders[] = {{OrderKind::kForward},
                             {OrderKind::kBackward},
                             {OrderKind::kRandom, 1},
                             {OrderKind::kRandom, 2}};

std::vector<float> Rising(int n) {
  std::vector<float> values(n);
  std::iota(values.begin(), values.end(), 1.0f);
  return values;
}

class BlockTest : public ::testing::Test {
 protected:
  ~BlockTest() override { SetOrder({}); }

  static kernels::LaunchShape Shape(int threads = kThreads) {
    kernels::LaunchShape shape;
    shape.block = threads;
    shape.shared_bytes = threads * sizeof(float);
    return shape;
  }

  // out of `kernel` over rising values.
  static std::vector<float> Run(Kernel kernel, int32_t shift = 0, int threads = kThreads) {
    TestStream stream;
    const DeviceArray<float> in(Rising(threads)), out(threads);
    LaunchTestKernel(&stream, kernel, Shape(threads),
                     {in.data(), nullptr, out.data(), threads, shift});
    EXPECT_EQ(stream.launched(), cudaSuccess);
    return out.Read(&stream);
  }

  static std::vector<float> Rotated(int32_t shift, int threads = kThreads) {
    std::vector<float> values = Rising(threads);
    std::rotate(values.begin(), values.begin() + shift % threads, values.end());
    return values;
  }

  // In how many orders `kernel` gives what it should.
  static int OrdersThatAreRight(Kernel kernel, const std::vector<float>& right, int32_t shift,
                                int threads) {
    int count = 0;
    for (const Order& order : kOrders) {
      SetOrder(order);
      count += Run(kernel, shift, threads) == right ? 1 : 0;
    }
    return count;
  }
};

TEST_F(BlockTest, ABarrierMakesWhatOtherThreadsWroteVisibleInEveryOrder) {
  for (int32_t shift : {1, 37, kThreads - 1}) {
    EXPECT_EQ(OrdersThatAreRight(Kernel::kRotate, Rotated(shift), shift, kThreads), 4);
    EXPECT_EQ(OrdersThatAreRight(Kernel::kRotateStatic, Rotated(shift), shift, kThreads), 4);
  }
}

TEST_F(BlockTest, AMissingBarrierGivesWrongResultsForwardsOrBackwards) {
  for (int32_t shift : {1, 37, kThreads - 1}) {
    for (OrderKind kind : {OrderKind::kForward, OrderKind::kBackward}) {
      SetOrder({kind});
      EXPECT_NE(Run(Kernel::kRotateNoBarrier, shift), Rotated(shift)) << shift;
    }
  }
}

TEST_F(BlockTest, LanesNeedSyncwarpToSeeEachOthersWrites) {
  EXPECT_EQ(OrdersThatAreRight(Kernel::kRotateWarp, Rotated(5, 32), 5, 32), 4);
  EXPECT_EQ(OrdersThatAreRight(Kernel::kRotateWarpNoSync, Rotated(5, 32), 5, 32), 0);
}

TEST_F(BlockTest, AsynchronousCopiesLandWhenTheyAreWaitedForAndNoSooner) {
  constexpr int kPieces = 64;
  const std::vector<float> values = Rising(4 * kPieces);
  const auto run = [&](Kernel kernel) {
    TestStream stream;
    const DeviceArray<float> in(values), out(values.size());
    kernels::LaunchShape shape = Shape(kPieces);
    shape.shared_bytes = 2 * 16 * kPieces;
    LaunchTestKernel(&stream, kernel, shape, {in.data(), nullptr, out.data(), kPieces, 3});
    return out.Read(&stream);
  };
  EXPECT_EQ(run(Kernel::kRotateAsync), Rotated(12, 4 * kPieces));
  for (Kernel kernel : {Kernel::kRotateAsyncNoWait, Kernel::kRotateAsyncTooFew}) {
    for (float value : run(kernel)) EXPECT_TRUE(std::isnan(value));
  }
}

TEST_F(BlockTest, EveryBlockFindsSharedMemoryPoisoned) {
  for (Kernel kernel : {Kernel::kReadsUnwritten, Kernel::kReadsUnwrittenStatic}) {
    TestStream stream;
    const DeviceArray<float> out(kThreads);
    kernels::LaunchShape shape = Shape();
    shape.grid_x = 3;
    LaunchTestKernel(&stream, kernel, shape, {nullptr, nullptr, out.data(), kThreads, 0});
    for (float value : out.Read(&stream)) EXPECT_TRUE(std::isnan(value)) << value;
  }
}

TEST_F(BlockTest, ThreadsThatHaveEndedAreNotWaitedFor) {
  const std::vector<float> found = Run(Kernel::kEndsEarly);
  EXPECT_EQ(found[0], 1.0f);
  EXPECT_EQ(found[kThreads / 2 - 1], kThreads / 2);
}

TEST_F(BlockTest, LanesGiveEachOtherWhatTheyBring) {
  for (const Order& order : kOrders) {
    SetOrder(order);
    const std::vector<float> found = Run(Kernel::kReduces);
    EXPECT_EQ(found[0], 32 * 33 / 2);
    EXPECT_EQ(found[31], 32 * 33 / 2);
    EXPECT_EQ(found[32], 32 * 33 / 2 + 32 * 32);
  }
}

TEST_F(BlockTest, BarriersCountAndBlocksAdd) {
  TestStream stream;
  std::vector<float> values(kThreads, -1.0f);
  values[3] = values[70] = 1.0f;
  const DeviceArray<float> in(values), out(std::vector<float>(kThreads + 1, 0.0f));
  kernels::LaunchShape shape = Shape();
  shape.grid_y = 5;
  LaunchTestKernel(&stream, Kernel::kCounts, shape, {in.data(), nullptr, out.data(), kThreads, 0});
  std::vector<float> expected(kThreads + 1, 2.0f);
  expected[kThreads] = 5.0f;
  EXPECT_EQ(out.Read(&stream), expected);
}

using BlockDeathTest = BlockTest;

TEST_F(BlockDeathTest, ADivergentBarrierIsReportedWithBothItsPlaces) {
  EXPECT_DEATH(Run(Kernel::kDivergentBarrier),
               "a divergent barrier: thread \\(0, 0, 0\\) waits in __syncthreads at "
               ".*test_kernels.cu:[0-9]+; thread \\(1, 0, 0\\)");
}

TEST_F(BlockDeathTest, LanesThatNeverMeetAreReportedInsteadOfWaitedFor) {
  EXPECT_DEATH(Run(Kernel::kMissingLane),
               "threads wait for others that never come \\(65 of 96 have ended\\): thread "
               "\\(0, 0, 0\\) waits in a shuffle(.|\n)*kernel .*MissingLane.*block \\(0, 0, 0\\)");
  EXPECT_DEATH(Run(Kernel::kTwoPlaces), "lanes of a warp meet at different places");
}

TEST_F(BlockDeathTest, MemoryBeyondAnArrayCrashesWithTheKernelsName) {
  EXPECT_DEATH(Run(Kernel::kWritesBeyond), "memory that is not there(.|\n)*WritesBeyond.*thread");
  EXPECT_DEATH(Run(Kernel::kReadsBefore), "memory that is not there(.|\n)*ReadsBefore");
  EXPECT_DEATH(Run(Kernel::kSharedBeyond), "memory that is not there(.|\n)*SharedBeyond");
  EXPECT_DEATH(Run(Kernel::kIndexBeyond, 10), "an index beyond its array(.|\n)*IndexBeyond");
  EXPECT_DEATH(Run(Kernel::kMisaligned), "misaligned(.|\n)*Misaligned");
}

// Random 16-bit floats.
template <class T>
std::vector<uint16_t> RandomHalves(int count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<uint16_t> halves(count);
  for (uint16_t& half : halves) {
    T rounded;
    kernels::FromF32(normal(random), &rounded);
    half = rounded.bits;
  }
  return halves;
}

template <class T>
void ExpectMmaMultiplies(Kernel kernel) {
  const std::vector<uint16_t> a = RandomHalves<T>(16 * 16, 1), b = RandomHalves<T>(8 * 16, 2);
  TestStream stream;
  const DeviceArray<uint16_t> da(a), db(b);
  const DeviceArray<float> out(16 * 8);
  kernels::LaunchShape shape;
  shape.block = 32;
  LaunchTestKernel(&stream, kernel, shape, {da.data(), db.data(), out.data(), 0, 0});
  const std::vector<float> found = out.Read(&stream);
  for (int row = 0; row < 16; ++row) {
    for (int col = 0; col < 8; ++col) {
      double sum = 1.0;
      for (int k = 0; k < 16; ++k) {
        sum += double{kernels::ToF32(T{a[row * 16 + k]})} * kernels::ToF32(T{b[col * 16 + k]});
      }
      EXPECT_NEAR(found[row * 8 + col], sum, 1e-5) << row << ", " << col;
    }
  }
}

TEST_F(BlockTest, MmaIsAMatrixProductInTheLayoutOfItsFragments) {
  ExpectMmaMultiplies<kernels::BF16>(Kernel::kMma);
  ExpectMmaMultiplies<kernels::F16>(Kernel::kMmaF16);
}

TEST_F(BlockTest, LdmatrixTransposes) {
  std::vector<uint16_t> in(256), transposed(256);
  for (int row = 0; row < 16; ++row) {
    for (int col = 0; col < 16; ++col) {
      in[row * 16 + col] = transposed[col * 16 + row] = static_cast<uint16_t>(row * 1000 + col);
    }
  }
  TestStream stream;
  const DeviceArray<uint16_t> din(in), out(in.size());
  kernels::LaunchShape shape;
  shape.block = 32;
  shape.shared_bytes = 512;
  LaunchTestKernel(&stream, Kernel::kTranspose, shape, {din.data(), nullptr, out.data(), 0, 0});
  EXPECT_EQ(out.Read(&stream), transposed);
}

}  // namespace
}  // namespace ccoe::emulation
