// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/grouped_ffn.h"

#include <cstring>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/activation.h"
#include "kernels/cpu/half.h"
#include "kernels/cpu/linear.h"

namespace ccoe::kernels {
namespace {

constexpr int64_t kHidden = 160, kIntermediate = 210;

// Two experts in bf16 from an odd address, and rows.
struct Fixture {
  explicit Fixture(int64_t row_count)
      : rows(row_count), file(6 * kHidden * kIntermediate * sizeof(BF16) + 1) {
    for (size_t i = 0; i < file.size() / sizeof(BF16); ++i) {
      BF16 value;
      FromF32(static_cast<float>(i * 37 % 101) / 101.0f - 0.5f, &value);
      std::memcpy(file.data() + 1 + i * sizeof(value), &value, sizeof(value));
    }
    for (int64_t i = 0; i < rows * kHidden; ++i)
      x.push_back(static_cast<float>(i * 53 % 97) / 97.0f - 0.5f);
    out.resize(x.size());
    for (int64_t r = 0; r < rows; ++r) x_rows.push_back(static_cast<int32_t>(r));
    weights.assign(rows, 1.0f);
    groups.resize(2);
    for (int64_t g = 0; g < 2; ++g) {
      groups[g].gate = At(3 * g, kIntermediate, kHidden);
      groups[g].up = At(3 * g + 1, kIntermediate, kHidden);
      groups[g].down = At(3 * g + 2, kHidden, kIntermediate);
    }
    groups[0].pair_count = groups[1].pair_begin = rows / 3;
    groups[1].pair_count = rows - rows / 3;
  }

  ConstMatrix At(int64_t matrix, int64_t matrix_rows, int64_t cols) const {
    const char* data = file.data() + 1 + matrix * kHidden * kIntermediate * sizeof(BF16);
    return {data, DType::kBF16, matrix_rows, cols, cols};
  }

  GroupedFfnArgs Args() {
    GroupedFfnArgs args;
    args.x = F32Matrix(x.data(), rows, kHidden);
    args.groups = groups;
    args.x_rows = x_rows;
    args.out_rows = x_rows;
    args.weights = weights;
    args.out = F32Matrix(out.data(), rows, kHidden);
    return args;
  }

  int64_t rows;
  std::vector<char> file;
  std::vector<float> x, out, weights;
  std::vector<int32_t> x_rows;
  std::vector<ExpertGroup> groups;
};

// The same by the ops of a dense layer.
std::vector<float> Dense(ThreadTeam* team, const Fixture& f) {
  std::vector<float> out(f.x.size());
  Scratch scratch;
  for (const ExpertGroup& group : f.groups) {
    const int64_t rows = group.pair_count;
    if (rows == 0) continue;
    std::vector<float> inner(2 * rows * kIntermediate);
    const Matrix gate = F32Matrix(inner.data(), rows, kIntermediate);
    const Matrix up = F32Matrix(inner.data() + rows * kIntermediate, rows, kIntermediate);
    const LinearPart parts[] = {{group.gate, {}, gate, false}, {group.up, {}, up, false}};
    CpuLinear(team, &scratch, F32Matrix(f.x.data() + group.pair_begin * kHidden, rows, kHidden),
              parts);
    CpuGatedActivation(team, Activation::kSilu, gate, up, gate);
    const LinearPart down{
        group.down, {}, F32Matrix(out.data() + group.pair_begin * kHidden, rows, kHidden), false};
    CpuLinear(team, &scratch, gate, {&down, 1});
  }
  return out;
}

TEST(CpuGroupedFfnTest, GivesTheBitsOfADenseLayerOnAnyTeam) {
  for (int64_t rows : {1, 2, 30, 400}) {
    Fixture f(rows);
    ThreadTeam one(1);
    const std::vector<float> expected = Dense(&one, f);
    for (int threads : {1, 2, 4}) {
      ThreadTeam team(threads);
      Scratch scratch;
      std::fill(f.out.begin(), f.out.end(), -1.0f);
      CpuGroupedFfn(&team, &scratch, f.Args());
      EXPECT_EQ(f.out, expected) << rows << " rows, " << threads << " threads";
    }
  }
}

TEST(CpuGroupedFfnTest, PairsOfSeveralBatchesGiveTheSameBits) {
  Fixture f(13000);  // rows of 370 floats, 11336 a batch
  ThreadTeam team(2);
  Scratch scratch;
  CpuGroupedFfn(&team, &scratch, f.Args());
  EXPECT_TRUE(f.out == Dense(&team, f));
}

TEST(CpuGroupedFfnDeathTest, AWrongShapeOrARowOutsideAborts) {
  ThreadTeam team(1);
  Scratch scratch;
  Fixture shape(3), row(3), pairs(3);
  shape.groups[1].down = shape.groups[1].up;
  EXPECT_DEATH(CpuGroupedFfn(&team, &scratch, shape.Args()), "group.down");
  row.x_rows[2] = 3;
  EXPECT_DEATH(CpuGroupedFfn(&team, &scratch, row.Args()), "args.x.rows");
  pairs.groups[1].pair_count = 3;
  EXPECT_DEATH(CpuGroupedFfn(&team, &scratch, pairs.Args()), "pair_count <= pairs");
}

}  // namespace
}  // namespace ccoe::kernels
