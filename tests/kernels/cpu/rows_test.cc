#include "kernels/cpu/rows.h"

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
