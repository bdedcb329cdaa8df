// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/attention.h"
#include "tests/kernels/ops_conformance.h"
#include "tests/kernels/test_tensors.h"

namespace ccoe::kernels {
namespace {

constexpr double kEps = std::numeric_limits<float>::epsilon();

// One sequence's q, k and v, and where its pages lie in a cache of `page_tokens` tokens a page.
struct Paged {
  int64_t page_tokens = 16;
  bool shuffled = false;
  bool keys_are_values = false;
  DType dtype = DType::kF32;
};

std::vector<int32_t> BlockTable(int64_t tokens, const Paged& paged, int32_t spare) {
  std::vector<int32_t> table((tokens + paged.page_tokens - 1) / paged.page_tokens);
  std::iota(table.begin(), table.end(), spare);
  if (paged.shuffled) std::shuffle(table.begin(), table.end(), std::mt19937(7));
  return table;
}

// A cache and the rotary tables that leave q and k as they are.
class Cache {
 public:
  Cache(Ops* ops, const reference::AttentionShape& shape, int64_t pages, const Paged& paged)
      : ops_(ops),
        shape_(shape),
        k_(ops, pages * shape.kv_heads * paged.page_tokens, shape.head_dim, paged.dtype),
        v_(ops, pages * shape.kv_heads * paged.page_tokens, shape.head_dim, paged.dtype) {
    layer_ = {k_.view().data,    v_.view().data, paged.dtype,   pages,
              paged.page_tokens, shape.kv_heads, shape.head_dim};
    if (paged.keys_are_values) layer_.v = layer_.k;
    // Whatever lies in a page that is not the sequence's must not matter.
    reference::Dense garbage(k_.view().rows, shape.head_dim);
    std::fill(garbage.values.begin(), garbage.values.end(), std::nan(""));
    k_.Upload(garbage);
    v_.Upload(garbage);
  }

  const KvLayer& layer() const { return layer_; }

  void Append(const reference::Dense& k, const reference::Dense& v, int64_t first,
              const std::vector<int32_t>& table) {
    reference::Dense ones(k.rows, 0), q(k.rows, shape_.head_dim);
    DeviceMatrix dq(ops_, q, DType::kF32), dk(ops_, k, DType::kF32), dv(ops_, v, DType::kF32);
    DeviceMatrix none(ops_, ones, DType::kF32);
    std::vector<int64_t> slots(k.rows);
    for (int64_t i = 0; i < k.rows; ++i) {
      const int64_t token = first + i;
      slots[i] =
          table[token / layer_.page_tokens] * layer_.page_tokens + token % layer_.page_tokens;
    }
    RopeAndAppendKvArgs args;
    args.q = dq.view();
    args.k = dk.view();
    if (layer_.v != layer_.k) args.v = dv.view();
    args.cos = none.view();
    args.sin = none.view();
    args.slots = slots;
    args.cache = layer_;
    ops_->RopeAndAppendKv(args);
    ASSERT_TRUE(ops_->Synchronize().ok());
  }

 private:
  Ops* ops_;
  reference::AttentionShape shape_;
  DeviceMatrix k_, v_;
  KvLayer layer_;
};

struct Sequence {
  reference::Dense q, k, v;
};

// Keys and values that a cache of `dtype` holds exactly.
Sequence RandomSequence(const reference::AttentionShape& shape, int64_t tokens, uint32_t seed,
                        DType dtype) {
  return {RandomDense(tokens, shape.heads * shape.head_dim, DType::kF32, seed),
          RandomDense(tokens, shape.kv_heads * shape.head_dim, dtype, seed + 1),
          RandomDense(tokens, shape.kv_heads * shape.head_dim, dtype, seed + 2)};
}

PagedAttentionArgs MakeArgs(const reference::AttentionShape& shape, const KvLayer& layer) {
  PagedAttentionArgs args;
  args.heads = shape.heads;
  args.cache = layer;
  args.scale = static_cast<float>(shape.scale);
  args.sliding_window = shape.sliding_window;
  args.soft_cap = static_cast<float>(shape.soft_cap);
  return args;
}

// Attention of a whole sequence, appended and asked in pieces of `piece` rows.
reference::Dense RunInPieces(Ops* ops, const reference::AttentionShape& shape, const Sequence& s,
                             int64_t piece, const Paged& paged) {
  const std::vector<int32_t> table = BlockTable(s.q.rows, paged, /*spare=*/1);
  Cache cache(ops, shape, static_cast<int64_t>(table.size()) + 2, paged);
  reference::Dense out(s.q.rows, s.q.cols);
  for (int64_t first = 0; first < s.q.rows; first += piece) {
    const int64_t rows = std::min(piece, s.q.rows - first);
    cache.Append(Rows(s.k, first, rows), Rows(s.v, first, rows), first, table);
    DeviceMatrix q(ops, Rows(s.q, first, rows), DType::kF32), part(ops, rows, s.q.cols);
    SequenceRows sequence{0, rows, first, table};
    PagedAttentionArgs args = MakeArgs(shape, cache.layer());
    args.q = q.view();
    args.out = part.view();
    args.sequences = {&sequence, 1};
    ops->PagedAttention(args);
    const reference::Dense values = part.Download();
    std::copy(values.values.begin(), values.values.end(), out.values.begin() + first * s.q.cols);
  }
  return out;
}

// Scores carry an error of sqrt(head_dim) epsilon times their magnitude, which the exponential
// turns into a relative error of the weights; the values are standard normal. Queries and weights
// may have been rounded before.
reference::Dense AttentionTolerance(const reference::AttentionShape& shape, int64_t tokens,
                                    double attention_eps) {
  reference::Dense tolerance(1, 1);
  const double score = shape.scale * shape.head_dim;
  tolerance.values[0] =
      kEps * (16 + 2 * std::sqrt(tokens) + 2 * score * std::sqrt(shape.head_dim)) +
      attention_eps * (8 + 8 * shape.scale * std::sqrt(shape.head_dim));
  return tolerance;
}

TEST_P(OpsConformance, AttentionMatchesTheReferenceForEveryHeadShape) {
  for (int64_t head_dim : {1, 7, 16, 24, 32, 64, 80, 96, 128, 256}) {
    const reference::AttentionShape shapes[] = {
        {4, 2, head_dim, 1 / std::sqrt(head_dim), 0, 0},
        {3, 3, head_dim, 1 / std::sqrt(head_dim), 5, 0},
        {6, 1, head_dim, 1 / std::sqrt(head_dim), 0, 2.0},
    };
    for (const reference::AttentionShape& shape : shapes) {
      const Sequence s = RandomSequence(shape, 37, 11, GetParam().kv_dtype);
      EXPECT_EQ(WorstDifference(
                    RunInPieces(ops_.get(), shape, s, 37, {16, true, false, GetParam().kv_dtype}),
                    reference::Attention(shape, s.q, s.k, s.v),
                    AttentionTolerance(shape, 37, GetParam().attention_eps)),
                "")
          << "head_dim " << head_dim << ", heads " << shape.heads;
    }
  }
}

TEST_P(OpsConformance, AttentionMatchesTheReferenceOverLongContexts) {
  const reference::AttentionShape shapes[] = {{2, 1, 32, 1 / std::sqrt(32), 0, 0},
                                              {2, 2, 16, 0.25, 300, 0},
                                              {2, 1, 16, 0.25, 17, 30.0},
                                              {4, 2, 64, 0.125, 0, 0},
                                              {2, 1, 128, 0.09, 300, 30.0}};
  const int64_t tokens = GetParam().slow ? 530 : 700;
  for (const reference::AttentionShape& shape : shapes) {
    const Sequence s = RandomSequence(shape, tokens, 21, GetParam().kv_dtype);
    EXPECT_EQ(WorstDifference(
                  RunInPieces(ops_.get(), shape, s, tokens, {16, true, false, GetParam().kv_dtype}),
                  reference::Attention(shape, s.q, s.k, s.v),
                  AttentionTolerance(shape, tokens, GetParam().attention_eps)),
              "")
        << "window " << shape.sliding_window;
  }
}

TEST_P(OpsConformance, AttentionOverKeysThatAreTheValuesToo) {
  const reference::AttentionShape shapes[] = {
      {GetParam().slow ? 20 : 128, 1, 576, 1 / std::sqrt(192), 0, 0},
      {20, 1, 40, 0.25, 0, 0},
      {4, 2, 24, 0.25, 0, 0}};
  for (const reference::AttentionShape& shape : shapes) {
    const int64_t tokens = shape.head_dim == 40 ? 280 : 9;
    Sequence s = RandomSequence(shape, tokens, 41, GetParam().kv_dtype);
    s.v = s.k;
    const reference::Dense whole =
        RunInPieces(ops_.get(), shape, s, tokens, {16, true, true, GetParam().kv_dtype});
    EXPECT_EQ(WorstDifference(whole, reference::Attention(shape, s.q, s.k, s.v),
                              AttentionTolerance(shape, tokens, GetParam().attention_eps)),
              "")
        << shape.head_dim;
    if (!GetParam().deterministic) continue;
    for (int64_t piece : {1, 100}) {
      if (piece == 1 && tokens > 100) continue;
      EXPECT_EQ(FirstBitDifference(
                    RunInPieces(ops_.get(), shape, s, piece, {16, true, true, GetParam().kv_dtype}),
                    whole),
                "")
          << shape.head_dim << " in pieces of " << piece;
    }
  }
}

TEST_P(OpsDeterminism, AttentionGivesTheSameBitsHoweverAPromptIsCutAndItsPagesLie) {
  const reference::AttentionShape shapes[] = {{4, 2, 24, 1 / std::sqrt(24), 0, 0},
                                              {4, 1, 16, 0.25, 270, 0},
                                              {2, 2, 16, 0.25, 9, 20.0},
                                              {4, 2, 64, 0.125, 270, 0}};
  const DType kv = GetParam().kv_dtype;
  // Single rows are what takes long.
  const int64_t tokens = GetParam().slow ? 290 : 560;
  const std::vector<int64_t> pieces =
      GetParam().slow ? std::vector<int64_t>{1, 100, 257} : std::vector<int64_t>{1, 3, 100, 257};
  for (const reference::AttentionShape& shape : shapes) {
    const Sequence s = RandomSequence(shape, tokens, 31, GetParam().kv_dtype);
    const reference::Dense whole =
        RunInPieces(ops_.get(), shape, s, tokens, {16, false, false, kv});
    for (int64_t piece : pieces) {
      for (const Paged& paged : {Paged{16, true, false, kv}, Paged{1, true, false, kv},
                                 Paged{48, true, false, kv}, Paged{1024, false, false, kv}}) {
        if (piece == 1 && paged.page_tokens != 16) continue;
        EXPECT_EQ(FirstBitDifference(RunInPieces(ops_.get(), shape, s, piece, paged), whole), "")
            << "pieces of " << piece << ", pages of " << paged.page_tokens << ", window "
            << shape.sliding_window;
      }
    }
  }
}

TEST_P(OpsConformance, AttentionOfSeveralSequencesIsTheAttentionOfEach) {
  const reference::AttentionShape shape{4, 2, 32, 1 / std::sqrt(32), 0, 0};
  const int64_t tokens[] = {1, 40, 300}, cached[] = {0, 25, 299};
  std::vector<Sequence> sequences;
  std::vector<std::vector<int32_t>> tables;
  Cache cache(ops_.get(), shape, 40, {16, false, false, GetParam().kv_dtype});
  int64_t rows = 0;
  for (int i = 0; i < 3; ++i) {
    sequences.push_back(RandomSequence(shape, tokens[i], 50 + 10 * i, GetParam().kv_dtype));
    tables.push_back(BlockTable(tokens[i], {16, true}, i == 0 ? 0 : i == 1 ? 1 : 10));
    cache.Append(sequences[i].k, sequences[i].v, 0, tables[i]);
    rows += tokens[i] - cached[i];
  }
  reference::Dense q(rows, shape.heads * shape.head_dim);
  std::vector<SequenceRows> asked;
  int64_t row = 0;
  for (int i = 0; i < 3; ++i) {
    const reference::Dense part = Rows(sequences[i].q, cached[i], tokens[i] - cached[i]);
    std::copy(part.values.begin(), part.values.end(), q.values.begin() + row * q.cols);
    asked.push_back({row, part.rows, cached[i], tables[i]});
    row += part.rows;
  }
  DeviceMatrix dq(ops_.get(), q, DType::kF32), out(ops_.get(), rows, q.cols);
  PagedAttentionArgs args = MakeArgs(shape, cache.layer());
  args.q = dq.view();
  args.out = out.view();
  args.sequences = asked;
  ops_->PagedAttention(args);
  const reference::Dense together = out.Download();
  for (int i = 0; i < 3; ++i) {
    const reference::Dense alone =
        Rows(reference::Attention(shape, sequences[i].q, sequences[i].k, sequences[i].v), cached[i],
             asked[i].row_count);
    EXPECT_EQ(WorstDifference(Rows(together, asked[i].row_begin, asked[i].row_count), alone,
                              AttentionTolerance(shape, tokens[i], GetParam().attention_eps)),
              "");
  }
}

// Cosine and product are rounded to f32 once each.
TEST_P(OpsConformance, RopeAnglesMatchTheReferenceAtAnyPosition) {
  const std::vector<int64_t> positions = {0, 1, 7, 4095, 100000, 163839, (1 << 24) + 1};
  for (int64_t pairs : {1, 3, 64, 300}) {
    std::vector<float> frequencies(pairs);
    for (int64_t i = 0; i < pairs; ++i) {
      frequencies[i] = static_cast<float>(std::pow(10000.0, -static_cast<double>(i) / pairs));
    }
    for (float magnitude : {1.0f, 1.3f}) {
      const int64_t rows = static_cast<int64_t>(positions.size());
      DeviceMatrix cos(ops_.get(), rows, pairs, DType::kF32, /*padding=*/2);
      DeviceMatrix sin(ops_.get(), rows, pairs, DType::kF32, /*padding=*/1);
      const RopeAnglesArgs args{positions, frequencies, magnitude, cos.view(), sin.view()};
      ops_->RopeAngles(args);
      reference::Dense tolerance(1, 1);
      tolerance.at(0, 0) = magnitude * kEps;
      EXPECT_EQ(WorstDifference(cos.Download(), reference::RopeAngles(args, false), tolerance), "")
          << pairs;
      EXPECT_EQ(WorstDifference(sin.Download(), reference::RopeAngles(args, true), tolerance), "")
          << pairs;
      // Alone, a position has the same bits.
      DeviceMatrix one_cos(ops_.get(), 1, pairs), one_sin(ops_.get(), 1, pairs);
      const absl::Span<const int64_t> one = absl::MakeConstSpan(positions).subspan(4, 1);
      ops_->RopeAngles({one, frequencies, magnitude, one_cos.view(), one_sin.view()});
      EXPECT_EQ(FirstBitDifference(one_cos.Download(), Rows(cos.Download(), 4, 1)), "");
      EXPECT_EQ(FirstBitDifference(one_sin.Download(), Rows(sin.Download(), 4, 1)), "");
    }
  }
}

TEST_P(OpsConformance, RopeAnglesOfNoRowsDoNothing) {
  DeviceMatrix cos(ops_.get(), 0, 2), sin(ops_.get(), 0, 2);
  const std::vector<float> frequencies = {1.0f, 0.5f};
  ops_->RopeAngles({{}, frequencies, 1.0f, cos.view(), sin.view()});
  EXPECT_TRUE(ops_->Synchronize().ok());
}

TEST_P(OpsConformance, RopeRotatesAndAppendsInBothStylesAndInPart) {
  constexpr int64_t kRows = 5, kHeads = 4, kKvHeads = 2, kPageTokens = 4;
  for (RopeStyle style : {RopeStyle::kHalfSplit, RopeStyle::kInterleaved}) {
    for (int64_t head_dim : {6, 64}) {
      for (int64_t pairs : {head_dim / 2, head_dim / 3}) {
        const reference::Dense q = RandomDense(kRows, kHeads * head_dim, DType::kF32, 1);
        const reference::Dense k = RandomDense(kRows, kKvHeads * head_dim, DType::kF32, 2);
        const reference::Dense v = RandomDense(kRows, kKvHeads * head_dim, DType::kF32, 3);
        const reference::Dense cos = RandomDense(kRows, pairs, DType::kF32, 4),
                               sin = RandomDense(kRows, pairs, DType::kF32, 5);
        DeviceMatrix dq(ops_.get(), q, DType::kF32), dk(ops_.get(), k, DType::kF32),
            dv(ops_.get(), v, DType::kF32);
        DeviceMatrix dcos(ops_.get(), cos, DType::kF32), dsin(ops_.get(), sin, DType::kF32);
        DeviceMatrix keys(ops_.get(), 3 * kKvHeads * kPageTokens, head_dim),
            values(ops_.get(), 3 * kKvHeads * kPageTokens, head_dim);
        const std::vector<int64_t> slots = {9, 0, 3, 4, 11};
        RopeAndAppendKvArgs args;
        args.q = dq.view();
        args.k = dk.view();
        args.v = dv.view();
        args.cos = dcos.view();
        args.sin = dsin.view();
        args.style = style;
        args.slots = slots;
        args.cache = {keys.view().data, values.view().data, DType::kF32, 3,
                      kPageTokens,      kKvHeads,           head_dim};
        ops_->RopeAndAppendKv(args);
        reference::Dense tolerance(1, 1);
        tolerance.values[0] = 16 * kEps;  // two products of values below about 4
        EXPECT_EQ(WorstDifference(dq.Download(), reference::Rope(q, head_dim, cos, sin, style),
                                  tolerance),
                  "");
        const reference::Dense rotated = dk.Download();
        EXPECT_EQ(
            WorstDifference(rotated, reference::Rope(k, head_dim, cos, sin, style), tolerance), "");
        const reference::Dense cached_k = keys.Download(), cached_v = values.Download();
        for (int64_t r = 0; r < kRows; ++r) {
          for (int64_t h = 0; h < kKvHeads; ++h) {
            const int64_t at =
                (slots[r] / kPageTokens * kKvHeads + h) * kPageTokens + slots[r] % kPageTokens;
            for (int64_t i = 0; i < head_dim; ++i) {
              ASSERT_EQ(cached_k.at(at, i), rotated.at(r, h * head_dim + i));
              ASSERT_EQ(cached_v.at(at, i), v.at(r, h * head_dim + i));
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace ccoe::kernels
