// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/row_memory.h"

#include <cstdint>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::exchange {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(RowBlockTest, OwnedHostValuesGetTheirWidthFromWhoeverReadsThem) {
  RowBlock block(std::vector<float>{1, 2, 3, 4, 5, 6});
  const RowBlock copy = block;
  block = RowBlock();
  EXPECT_FALSE(copy.on_device());
  EXPECT_EQ(copy.values(), 6);
  EXPECT_EQ(copy.bytes(), 24u);
  EXPECT_THAT(copy.host(), ElementsAre(1, 2, 3, 4, 5, 6));
  const kernels::ConstMatrix rows = copy.Rows(2);
  EXPECT_EQ(rows.rows, 3);
  EXPECT_EQ(static_cast<const float*>(rows.Row(2))[1], 6);
}

TEST(RowBlockTest, NoRowsAreEmptyHoweverTheyCame) {
  EXPECT_TRUE(RowBlock().empty());
  EXPECT_TRUE(RowBlock(std::vector<float>()).empty());
  EXPECT_EQ(RowBlock().Rows(4).rows, 0);
}

TEST(RowBlockTest, BorrowedRowsKeepTheirStride) {
  const std::vector<float> padded(8);
  const RowBlock block(kernels::ConstMatrix{padded.data(), kernels::DType::kF32, 2, 3, 4});
  EXPECT_EQ(block.view().stride, 4);
  EXPECT_EQ(block.values(), 6);
}

TEST(RowBlockTest, RowsOfADeviceKeepTheirMemoryAliveAndGiveItBack) {
  testing::TaggedDevice device(4096);
  RowBlock block;
  {
    ASSERT_OK_AND_ASSIGN(const auto memory, RowMemory::Create(&device, 4096));
    ASSERT_OK_AND_ASSIGN(RowMemory::Fresh fresh, memory->Take(2, 3, kernels::DType::kBF16));
    block = std::move(fresh.block);
    EXPECT_EQ(block.memory(), memory.get());
  }
  EXPECT_TRUE(block.on_device());
  EXPECT_EQ(block.bytes(), 12u);
  EXPECT_EQ(block.memory()->device(), &device);
  EXPECT_EQ(device.FreeBytes(), 0);
  block = RowBlock();
  EXPECT_EQ(device.FreeBytes(), 4096);
}

constexpr size_t kBytes = 64 << 10;

class RowMemoryTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK_AND_ASSIGN(memory_, RowMemory::Create(&device_, kBytes)); }

  testing::TaggedDevice device_;
  std::shared_ptr<RowMemory> memory_;
};

TEST_F(RowMemoryTest, BlocksDoNotOverlapAndLieWithinThePiece) {
  std::vector<RowMemory::Fresh> taken;
  while (true) {
    auto fresh = memory_->Take(3, 100, kernels::DType::kF32);
    if (!fresh.ok()) break;
    taken.push_back(*std::move(fresh));
  }
  EXPECT_EQ(taken.size(), kBytes / 1536);  // 1200 bytes, rounded up to 512s
  for (size_t i = 0; i < taken.size(); ++i) {
    const auto begin = reinterpret_cast<uintptr_t>(taken[i].rows.data);
    EXPECT_EQ(begin, reinterpret_cast<uintptr_t>(memory_->data()) + 1536 * i);
    EXPECT_EQ(taken[i].block.view().data, taken[i].rows.data);
  }
}

TEST_F(RowMemoryTest, ARequestThatDoesNotFitIsRefusedAtOnceWithTheSizes) {
  ASSERT_OK_AND_ASSIGN(const auto fresh, memory_->Take(1, 1, kernels::DType::kF32));
  EXPECT_THAT(memory_->Take(64, 512, kernels::DType::kBF16).status(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("no 65536 bytes are left together of the 65536")));
}

TEST_F(RowMemoryTest, WhatComesBackJoinsItsNeighbours) {
  std::mt19937 random(3);
  std::vector<RowBlock> held;
  for (int round = 0; round < 2000; ++round) {
    if (random() % 2 == 0 || held.empty()) {
      auto fresh = memory_->Take(1 + random() % 8, 1 + random() % 300, kernels::DType::kBF16);
      if (fresh.ok()) held.push_back(std::move(fresh->block));
    } else {
      std::swap(held[random() % held.size()], held.back());
      held.pop_back();
    }
  }
  held.clear();
  EXPECT_EQ(memory_->free_bytes(), kBytes);
  EXPECT_OK(memory_->Take(64, 512, kernels::DType::kBF16).status());
}

TEST_F(RowMemoryTest, ManyThreadsTakeAndGiveBack) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this] {
      for (int i = 0; i < 500; ++i) {
        auto first = memory_->Take(1, 64 + i % 64, kernels::DType::kF32);
        auto second = memory_->Take(2, 64, kernels::DType::kF32);
        EXPECT_OK(first.status());
        EXPECT_OK(second.status());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(memory_->free_bytes(), kBytes);
}

TEST(RowMemoryOfADeviceTest, ADeviceWithoutSoMuchMemorySaysSo) {
  testing::TaggedDevice device(1000);
  EXPECT_THAT(RowMemory::Create(&device, 2000).status(),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace ccoe::exchange
