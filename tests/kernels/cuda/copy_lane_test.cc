// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/copy_lane.h"

#include <cstdint>
#include <numeric>
#include <vector>

#include "tests/kernels/cuda/cuda_under_test.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::kernels {
namespace {

class CopyLaneTest : public CudaTest {};

TEST_F(CopyLaneTest, CarriesBothWaysAndZeroes) {
  ASSERT_OK_AND_ASSIGN(const auto lane, CopyLane::Create());
  // Three pieces, the last a short one.
  std::vector<uint32_t> sent((size_t{2} << 20) + 3), back(sent.size());
  std::iota(sent.begin(), sent.end(), 1u);
  const size_t bytes = sent.size() * sizeof(uint32_t);
  ASSERT_OK_AND_ASSIGN(Buffer buffer, CudaDeviceUnderTest()->Allocate(bytes));
  ASSERT_OK(lane->FromHost(sent.data(), buffer.data(), bytes, "test"));
  ASSERT_OK(lane->ToHost(buffer.data(), back.data(), bytes, "test"));
  EXPECT_TRUE(sent == back);
  ASSERT_OK(lane->Zero(buffer.data(), bytes, "test"));
  ASSERT_OK(lane->ToHost(buffer.data(), back.data(), bytes, "test"));
  EXPECT_TRUE(back == std::vector<uint32_t>(back.size(), 0));
}

TEST_F(CopyLaneTest, AnErrorBeginsWithWhatWasCopied) {
  ASSERT_OK_AND_ASSIGN(const auto lane, CopyLane::Create());
  char byte = 0;
  const absl::Status status = lane->ToHost(nullptr, &byte, 1, "the test's byte");
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(status.ToString(), ::testing::HasSubstr("the test's byte"));
}

}  // namespace
}  // namespace ccoe::kernels
