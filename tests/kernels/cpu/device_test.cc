// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/cpu/cpu_ops.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::kernels {
namespace {

using ::testing::HasSubstr;

TEST(CpuDeviceTest, MemoryReadsAsZeroAndIsAligned) {
  for (size_t bytes : {size_t{1}, size_t{4097}, size_t{5} << 20}) {
    ASSERT_OK_AND_ASSIGN(Buffer buffer, CpuDevice().Allocate(bytes));
    EXPECT_EQ(buffer.size_bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0u);
    const char* data = static_cast<const char*>(buffer.data());
    for (size_t i = 0; i < bytes; i += 1000) EXPECT_EQ(data[i], 0);
    EXPECT_EQ(data[bytes - 1], 0);
  }
}

TEST(CpuDeviceTest, AnImpossibleSizeIsRefusedWithTheSizeInTheMessage) {
  EXPECT_THAT(CpuDevice().Allocate(std::numeric_limits<size_t>::max() / 2),
              ccoe::testing::StatusIs(absl::StatusCode::kResourceExhausted,
                                      HasSubstr("9223372036854775807")));
}

TEST(CpuDeviceTest, CopiesThereAndBack) {
  ASSERT_OK_AND_ASSIGN(Buffer buffer, CpuDevice().Allocate(12));
  const std::vector<int32_t> values = {1, 2, 3};
  std::vector<int32_t> back(3);
  EXPECT_OK(CpuDevice().CopyFromHost(values.data(), buffer.data(), 12));
  EXPECT_OK(CpuDevice().CopyToHost(buffer.data(), back.data(), 12));
  EXPECT_EQ(back, values);
  EXPECT_OK(CpuDevice().CopyFromHost(nullptr, nullptr, 0));
}

TEST(CpuDeviceTest, AMovedBufferTakesItsMemoryAlong) {
  ASSERT_OK_AND_ASSIGN(Buffer buffer, CpuDevice().Allocate(4));
  buffer.f32()[0] = 2.5f;
  Buffer other = std::move(buffer);
  EXPECT_EQ(other.f32()[0], 2.5f);
  ASSERT_OK_AND_ASSIGN(other, CpuDevice().Allocate(8));
  EXPECT_EQ(other.f32()[0], 0.0f);
}

TEST(CpuDeviceTest, ReadsHostMemoryInPlace) {
  EXPECT_TRUE(CpuDevice().ReadsHostMemory());
  EXPECT_EQ(CpuDevice().Name(), "cpu");
}

}  // namespace
}  // namespace ccoe::kernels
