#include "runtime/experts/swap_target.h"

#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/exchange/row_memory.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::experts {
namespace {

constexpr int64_t kHidden = 64;

// Three rows of one sequence, which all come back.
WaitingSwap SwapOf(exchange::RowBlock rows) {
  WaitingSwap swap;
  swap.header.wire_dtype = kernels::DType::kBF16;
  exchange::SwapSequence sequence;
  sequence.row_count = 3;
  sequence.return_rows = exchange::ReturnRows::kAll;
  swap.header.sequences = {sequence};
  swap.rows = std::move(rows);
  return swap;
}

TEST(SwapTargetTest, WhatRowsOfADeviceGiveLiesThereWhileThereIsRoom) {
  testing::TaggedDevice device;
  ASSERT_OK_AND_ASSIGN(const auto memory, exchange::RowMemory::Create(&device, 1024));
  ASSERT_OK_AND_ASSIGN(auto rows, memory->Take(3, kHidden, kernels::DType::kBF16));
  std::vector<WaitingSwap> swaps(3);
  swaps[0] = SwapOf(rows.block);
  swaps[1] = SwapOf(rows.block);
  swaps[2] = SwapOf(std::vector<float>(3 * kHidden));
  std::vector<SwapTarget> targets = TargetsOf(swaps, kHidden);
  EXPECT_EQ(targets[0].device_rows.rows, 3);
  EXPECT_EQ(targets[0].device_rows.dtype, kernels::DType::kBF16);
  EXPECT_TRUE(targets[0].result.rows.empty());
  for (const size_t i : {1, 2}) {
    EXPECT_TRUE(targets[i].device_rows.empty());
    EXPECT_EQ(targets[i].result.rows.size(), static_cast<size_t>(3 * kHidden));
  }
  const auto results = ResultsOf(std::move(targets), absl::Milliseconds(5));
  ASSERT_EQ(results.size(), 3u);
  EXPECT_TRUE(results[0].device_rows.on_device());
  EXPECT_TRUE(results[1].device_rows.empty());
  EXPECT_EQ(results[2].expert_time, absl::Milliseconds(5));
}

}  // namespace
}  // namespace ccoe::experts
