// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/norm.h"

#include <vector>

#include "gtest/gtest.h"

namespace ccoe::kernels {
namespace {

TEST(CpuRmsNormTest, ARowOfZerosStaysZero) {
  ThreadTeam team(2);
  const std::vector<float> x(70), weight(70, 3.0f);
  std::vector<float> out(70, 1.0f);
  CpuRmsNorm(&team, F32Matrix(x.data(), 1, 70), F32Matrix(weight.data(), 1, 70), 1e-6f,
             F32Matrix(out.data(), 1, 70));
  EXPECT_EQ(out, x);
}

TEST(CpuRmsNormTest, ARowDoesNotDependOnItsNeighbours) {
  ThreadTeam team(3);
  constexpr int64_t kRows = 200, kCols = 900;  // several tasks
  std::vector<float> x(kRows * kCols), weight(kCols, 1.5f), out(x.size()), alone(kCols);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 31 % 113) - 50.0f;
  CpuRmsNorm(&team, F32Matrix(x.data(), kRows, kCols), F32Matrix(weight.data(), 1, kCols), 1e-6f,
             F32Matrix(out.data(), kRows, kCols));
  CpuRmsNorm(&team, F32Matrix(x.data() + 77 * kCols, 1, kCols), F32Matrix(weight.data(), 1, kCols),
             1e-6f, F32Matrix(alone.data(), 1, kCols));
  EXPECT_TRUE(std::equal(alone.begin(), alone.end(), out.begin() + 77 * kCols));
}

}  // namespace
}  // namespace ccoe::kernels
