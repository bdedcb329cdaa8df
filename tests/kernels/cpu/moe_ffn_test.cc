// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/moe_ffn.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace ccoe::kernels {
namespace {

constexpr int64_t kHidden = 3, kRows = 3, kTopK = 2;

// Two experts with one inner column each: expert e gives (e + 1) * silu(x0) * x1 in all columns.
struct Fixture {
  Fixture() {
    for (int e = 0; e < 2; ++e) {
      experts.push_back(
          {F32Matrix(gate, 1, kHidden), F32Matrix(up, 1, kHidden), F32Matrix(down[e], kHidden, 1)});
    }
    args.x = F32Matrix(x, kRows, kHidden);
    args.experts = experts;
    args.chosen = chosen;
    args.weights = weights;
    args.top_k = kTopK;
    args.contributions = F32Matrix(contributions, kRows * kTopK, kHidden);
    args.out = F32Matrix(out, kRows, kHidden);
  }

  float gate[kHidden] = {1, 0, 0}, up[kHidden] = {0, 1, 0};
  float down[2][kHidden] = {{1, 1, 1}, {2, 2, 2}};
  float x[kRows * kHidden] = {30, 1, 0, 40, 2, 0, 50, 3, 0};
  int32_t chosen[kRows * kTopK] = {1, -1, 0, 1, 0, -1};
  float weights[kRows * kTopK] = {0.5f, 9, 1, 0.25f, 2, 9};
  float contributions[kRows * kTopK * kHidden] = {};
  float out[kRows * kHidden] = {};
  std::vector<ExpertMatrices> experts;
  MoeFfnArgs args;
};

TEST(CpuMoeFfnTest, EachRowIsTheWeightedSumOfItsExperts) {
  ThreadTeam team(2);
  Scratch scratch;
  Fixture f;
  CpuMoeFfn(&team, &scratch, f.args);
  // silu(x) is x for x so large.
  const float expected[kRows] = {0.5f * 2 * 30 * 1, 40 * 2 + 0.25f * 2 * 40 * 2, 2 * 50 * 3};
  for (int64_t i = 0; i < kRows * kHidden; ++i) {
    EXPECT_FLOAT_EQ(f.out[i], expected[i / kHidden]) << i;
  }
}

TEST(CpuMoeFfnDeathTest, AnExpertThatThereIsNotIsACallersBug) {
  ThreadTeam team(1);
  Scratch scratch;
  Fixture f;
  f.chosen[3] = 2;
  EXPECT_DEATH(CpuMoeFfn(&team, &scratch, f.args), "");
}

}  // namespace
}  // namespace ccoe::kernels
