// SPDX-License-Identifier: Apache-2.0
// kernels/cuda/device.h, as it is used: through OpenCudaDevice.
#include <cstdint>
#include <numeric>
#include <thread>
#include <vector>

#include "tests/kernels/cuda/cuda_under_test.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::kernels {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

class CudaDeviceTest : public CudaTest {};

TEST_F(CudaDeviceTest, IsNamedByItsIndexAndTellsWhatIsFree) {
  Device& device = *CudaDeviceUnderTest();
  EXPECT_EQ(device.Name(), "cuda:0");
  EXPECT_FALSE(device.ReadsHostMemory());
  EXPECT_GT(device.FreeBytes(), 0);
}

TEST_F(CudaDeviceTest, AnIndexThatIsNotThereIsNotFound) {
  EXPECT_THAT(OpenCudaDevice(-1).status(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("-1")));
  EXPECT_THAT(OpenCudaDevice(4096).status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("device 4096")));
}

TEST_F(CudaDeviceTest, MemoryReadsAsZeroAlsoWhenItIsUsedAgain) {
  Device& device = *CudaDeviceUnderTest();
  for (int round = 0; round < 2; ++round) {
    ASSERT_OK_AND_ASSIGN(Buffer buffer, device.Allocate(100001));
    std::vector<char> bytes(100001, 'x');
    ASSERT_OK(device.CopyToHost(buffer.data(), bytes.data(), bytes.size()));
    EXPECT_EQ(bytes, std::vector<char>(100001, '\0'));
    bytes.assign(bytes.size(), 'y');
    ASSERT_OK(device.CopyFromHost(bytes.data(), buffer.data(), bytes.size()));
  }
}

TEST_F(CudaDeviceTest, CopiesOfAllSizesComeBackAsTheyWent) {
  Device& device = *CudaDeviceUnderTest();
  // Below, at and above what goes through a half of the staging memory, and several of them.
  for (size_t count : {size_t{1}, size_t{1} << 20, (size_t{1} << 20) + 1, (size_t{5} << 20) + 3}) {
    std::vector<uint32_t> sent(count), back(count);
    std::iota(sent.begin(), sent.end(), 7u);
    ASSERT_OK_AND_ASSIGN(Buffer buffer, device.Allocate(count * 4));
    ASSERT_OK(device.CopyFromHost(sent.data(), buffer.data(), count * 4));
    ASSERT_OK(device.CopyToHost(buffer.data(), back.data(), count * 4));
    EXPECT_TRUE(sent == back) << count;
  }
}

TEST_F(CudaDeviceTest, MoreThreadsThanLanesCopyAtOnce) {
  constexpr int kThreads = 9;
  constexpr size_t kCount = (size_t{2} << 20) + 5;
  Device& device = *CudaDeviceUnderTest();
  ASSERT_OK_AND_ASSIGN(Buffer buffer, device.Allocate(kThreads * kCount * 4));
  std::vector<char> as_sent(kThreads, 0);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      std::vector<uint32_t> sent(kCount), back(kCount);
      std::iota(sent.begin(), sent.end(), 1000u * i);
      char* place = static_cast<char*>(buffer.data()) + i * kCount * 4;
      if (!device.CopyFromHost(sent.data(), place, kCount * 4).ok()) return;
      if (!device.CopyToHost(place, back.data(), kCount * 4).ok()) return;
      as_sent[i] = sent == back ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(as_sent, std::vector<char>(kThreads, 1));
}

TEST_F(CudaDeviceTest, NothingIsAllocatedAndCopiedToo) {
  Device& device = *CudaDeviceUnderTest();
  ASSERT_OK_AND_ASSIGN(const Buffer none, device.Allocate(0));
  EXPECT_EQ(none.data(), nullptr);
  EXPECT_OK(device.CopyFromHost(nullptr, nullptr, 0));
  EXPECT_OK(device.CopyToHost(nullptr, nullptr, 0));
}

TEST_F(CudaDeviceTest, WhatDoesNotFitIsRefusedWithItsSize) {
  EXPECT_THAT(CudaDeviceUnderTest()->Allocate(size_t{1} << 50).status(),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("1125899906842624 bytes")));
}

}  // namespace
}  // namespace ccoe::kernels
