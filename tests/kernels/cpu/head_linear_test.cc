// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/head_linear.h"

#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/linear.h"

namespace ccoe::kernels {
namespace {

std::vector<float> Values(int64_t count, int64_t seed) {
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    values[static_cast<size_t>(i)] = static_cast<float>((i + seed) * 37 % 101) / 101.0f - 0.5f;
  }
  return values;
}

// As latent attention has it: heads side by side.
HeadLinearArgs SideBySide(int64_t heads, const ConstMatrix& x, const ConstMatrix& weight,
                          const Matrix& out) {
  HeadLinearArgs args;
  args.heads = heads;
  args.x = {x.data, x.dtype, x.rows, x.cols / heads, x.stride};
  args.x_step = args.x.cols;
  args.weight = weight.Slice(0, weight.rows / heads);
  args.weight_step = args.weight.rows;
  args.out = {out.data, out.dtype, out.rows, out.cols / heads, out.stride};
  args.out_step = args.out.cols;
  return args;
}

TEST(CpuHeadLinearTest, WorkOfManyTasksGivesTheSameBitsOnAnyTeam) {
  constexpr int64_t kHeads = 6, kIn = 256, kOut = 150, kRows = 70;
  const std::vector<float> x = Values(kRows * kHeads * kIn, 1);
  const std::vector<float> weight = Values(kHeads * kOut * kIn, 2);
  std::vector<std::vector<float>> outs;
  for (int threads : {1, 2, 4}) {
    ThreadTeam team(threads);
    Scratch scratch;
    std::vector<float>& out = outs.emplace_back(kRows * kHeads * kOut);
    CpuHeadLinear(&team, &scratch,
                  SideBySide(kHeads, F32Matrix(x.data(), kRows, kHeads * kIn),
                             F32Matrix(weight.data(), kHeads * kOut, kIn),
                             F32Matrix(out.data(), kRows, kHeads * kOut)));
  }
  EXPECT_EQ(outs[1], outs[0]);
  EXPECT_EQ(outs[2], outs[0]);
}

// More packed rows than are held at a time.
TEST(CpuHeadLinearTest, HeadsInSeveralBatchesHaveTheBitsOfOneLinearEach) {
  constexpr int64_t kHeads = 3, kIn = 1024, kOut = 2, kRows = 2100;
  const std::vector<float> x = Values(kRows * kHeads * kIn, 3);
  const std::vector<float> weight = Values(kHeads * kOut * kIn, 4);
  std::vector<float> out(kRows * kHeads * kOut), expected(out.size());
  ThreadTeam team(2);
  Scratch scratch;
  const HeadLinearArgs args = SideBySide(kHeads, F32Matrix(x.data(), kRows, kHeads * kIn),
                                         F32Matrix(weight.data(), kHeads * kOut, kIn),
                                         F32Matrix(out.data(), kRows, kHeads * kOut));
  CpuHeadLinear(&team, &scratch, args);
  for (int64_t h = 0; h < kHeads; ++h) {
    ConstMatrix head_x = args.x;
    head_x.data = x.data() + h * kIn;
    LinearPart part;
    part.weight = F32Matrix(weight.data() + h * kOut * kIn, kOut, kIn);
    part.out = args.out;
    part.out.data = expected.data() + h * kOut;
    CpuLinear(&team, &scratch, head_x, {&part, 1});
  }
  EXPECT_EQ(out, expected);
}

}  // namespace
}  // namespace ccoe::kernels
