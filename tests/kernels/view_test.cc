// SPDX-License-Identifier: Apache-2.0
#include "kernels/view.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace ccoe::kernels {
namespace {

TEST(ViewTest, RowsAreAStrideApart) {
  std::vector<uint16_t> data(3 * 10);
  const ConstMatrix m{data.data(), DType::kBF16, 3, 8, 10};
  EXPECT_EQ(m.Row(2), data.data() + 20);
  const ConstMatrix slice = m.Slice(1, 2);
  EXPECT_EQ(slice.data, data.data() + 10);
  EXPECT_EQ(slice.rows, 2);
  EXPECT_EQ(slice.stride, 10);
}

TEST(ViewTest, AMatrixWidensToAConstMatrix) {
  std::vector<float> data(6);
  const Matrix m = F32Matrix(data.data(), 2, 3);
  const ConstMatrix c = m;
  EXPECT_EQ(c.Row(1), data.data() + 3);
  EXPECT_EQ(c.cols, 3);
  EXPECT_FALSE(c.empty());
  EXPECT_TRUE(ConstMatrix().empty());
}

TEST(DTypeTest, SizesAndNames) {
  EXPECT_EQ(DTypeBytes(DType::kF32), 4u);
  EXPECT_EQ(DTypeBytes(DType::kBF16), 2u);
  EXPECT_EQ(DTypeBytes(DType::kI64), 8u);
  EXPECT_EQ(DTypeBytes(DType::kU8), 1u);
  EXPECT_STREQ(DTypeName(DType::kF16), "f16");
  EXPECT_STREQ(DTypeName(DType::kBF16), "bf16");
}

}  // namespace
}  // namespace ccoe::kernels
