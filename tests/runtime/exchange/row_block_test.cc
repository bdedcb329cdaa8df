#include "runtime/exchange/row_block.h"

#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/exchange/row_memory.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::exchange {
namespace {

using ::testing::ElementsAre;

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

}  // namespace
}  // namespace ccoe::exchange
