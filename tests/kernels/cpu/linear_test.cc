// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/linear.h"

#include <cstring>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/half.h"

namespace ccoe::kernels {
namespace {

// What the conformance suite does not reach: where weights may lie, and what must not be written.

TEST(CpuLinearTest, ReadsWeightsFromOddAddressesAsInAMappedFile) {
  ThreadTeam team(2);
  Scratch scratch;
  constexpr int64_t kIn = 40, kOut = 6;
  std::vector<char> file(kIn * kOut * sizeof(uint16_t) + 1);
  for (int64_t i = 0; i < kIn * kOut; ++i) {
    BF16 value;
    FromF32(static_cast<float>(i % 5), &value);
    std::memcpy(file.data() + 1 + i * sizeof(value), &value, sizeof(value));
  }
  const std::vector<float> x(kIn, 1.0f);
  std::vector<float> out(kOut);
  LinearPart part;
  part.weight = {file.data() + 1, DType::kBF16, kOut, kIn, kIn};
  part.out = F32Matrix(out.data(), 1, kOut);
  CpuLinear(&team, &scratch, F32Matrix(x.data(), 1, kIn), {&part, 1});
  EXPECT_EQ(out, std::vector<float>(kOut, 80.0f));
}

TEST(CpuLinearTest, WritesNothingBesideItsColumns) {
  ThreadTeam team(1);
  Scratch scratch;
  const std::vector<float> x(3 * 4, 1.0f), weight(5 * 4, 1.0f);
  std::vector<float> out(3 * 8, -1.0f);
  LinearPart part;
  part.weight = F32Matrix(weight.data(), 5, 4);
  part.out = {out.data(), DType::kF32, 3, 5, 8};
  CpuLinear(&team, &scratch, F32Matrix(x.data(), 3, 4), {&part, 1});
  for (int64_t r = 0; r < 3; ++r) {
    for (int64_t c = 0; c < 8; ++c) EXPECT_EQ(out[r * 8 + c], c < 5 ? 4.0f : -1.0f);
  }
}

TEST(CpuLinearTest, WorkOfManyTasksGivesTheSameBitsOnAnyTeam) {
  constexpr int64_t kIn = 512, kOut = 600, kRows = 70;
  std::vector<float> x(kRows * kIn), weight(kOut * kIn);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 37 % 101) / 101.0f - 0.5f;
  for (size_t i = 0; i < weight.size(); ++i)
    weight[i] = static_cast<float>(i * 53 % 97) / 97.0f - 0.5f;
  std::vector<std::vector<float>> outs;
  for (int threads : {1, 2, 4}) {
    ThreadTeam team(threads);
    Scratch scratch;
    std::vector<float>& out = outs.emplace_back(kRows * kOut);
    LinearPart part;
    part.weight = F32Matrix(weight.data(), kOut, kIn);
    part.out = F32Matrix(out.data(), kRows, kOut);
    CpuLinear(&team, &scratch, F32Matrix(x.data(), kRows, kIn), {&part, 1});
  }
  EXPECT_EQ(outs[0], outs[1]);
  EXPECT_EQ(outs[0], outs[2]);
}

TEST(CpuLinearDeathTest, AWrongShapeAborts) {
  ThreadTeam team(1);
  Scratch scratch;
  std::vector<float> data(64);
  LinearPart part;
  part.weight = F32Matrix(data.data(), 2, 5);
  part.out = F32Matrix(data.data(), 1, 2);
  EXPECT_DEATH(CpuLinear(&team, &scratch, F32Matrix(data.data(), 1, 4), {&part, 1}),
               "weight.cols == x.cols");
}

}  // namespace
}  // namespace ccoe::kernels
