// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/rows.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace ccoe::kernels {
namespace {

TEST(CpuRowsTest, RowsOfIntegersAreCopiedAsTheyAre) {
  ThreadTeam team(1);
  const std::vector<int32_t> x = {1, 2, 3, 4, 5, 6};
  std::vector<int32_t> out(4);
  const ConstMatrix from{x.data(), DType::kI32, 3, 2, 2};
  CpuGatherRows(&team, from, {2, 0}, Matrix{out.data(), DType::kI32, 2, 2, 2});
  EXPECT_EQ(out, (std::vector<int32_t>{5, 6, 1, 2}));
}

TEST(CpuRowsTest, ClampingLeavesWhatIsNotANumber) {
  ThreadTeam team(1);
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> x = {std::nanf(""), infinity, -infinity, 1.0f};
  CpuClampRows(&team, 8.0f, F32Matrix(x.data(), 1, 4));
  EXPECT_TRUE(std::isnan(x[0]));
  EXPECT_EQ(std::vector<float>(x.begin() + 1, x.end()), (std::vector<float>{8.0f, -8.0f, 1.0f}));
}

TEST(CpuRowsDeathTest, OffsetsThatFallOrReachTooFarAbort) {
  ThreadTeam team(1);
  std::vector<float> x(4), out(4);
  const ConstMatrix contributions = F32Matrix(x.data(), 2, 2);
  const std::vector<int32_t> falling = {0, 2, 1}, far = {0, 1, 3};
  EXPECT_DEATH(CpuCombineRows(&team, {contributions, falling, F32Matrix(out.data(), 2, 2)}),
               "is_sorted");
  EXPECT_DEATH(CpuCombineRows(&team, {contributions, far, F32Matrix(out.data(), 2, 2)}),
               "rows >= pairs");
}

TEST(CpuRowsDeathTest, AnIdOutsideTheTableAborts) {
  ThreadTeam team(1);
  std::vector<float> table(4), out(2);
  EXPECT_DEATH(
      CpuEmbedRows(&team, F32Matrix(table.data(), 2, 2), {2}, 1.0f, F32Matrix(out.data(), 1, 2)),
      "ids\\[r\\] < table.rows");
}

TEST(CpuRowsDeathTest, ARowOutsideTheMatrixAborts) {
  ThreadTeam team(1);
  std::vector<float> x(4), out(2);
  EXPECT_DEATH(CpuGatherRows(&team, F32Matrix(x.data(), 2, 2), {-1}, F32Matrix(out.data(), 1, 2)),
               "rows\\[r\\] >= 0");
  EXPECT_DEATH(CpuScatterRows(&team, F32Matrix(out.data(), 1, 2), {2}, F32Matrix(x.data(), 2, 2)),
               "rows\\[r\\] < out.rows");
}

}  // namespace
}  // namespace ccoe::kernels
