// SPDX-License-Identifier: Apache-2.0
// Attention in chunks of kChunk tokens, cut at fixed absolute positions whatever the page size. For
// each row and head a chunk gives a maximum m, a sum l of exp(score - m) and a weighted sum o of
// values; the chunks are combined in order of position by the online-softmax recurrence (Milakov
// and Gimelshein 2018, arXiv 1805.02867; Dao et al. 2022, arXiv 2205.14135).
//
// Why the same bits come out however rows are batched: a score is summed over head_dim in order by
// one fused chain in one lane; l is summed by key position modulo the vector width, then by a fixed
// tree; o is summed over keys in order in one lane. Keys that a row does not see enter with weight
// zero, which changes no sum. Where there is little work, chunks become tasks of their own and are
// combined afterwards by the same function.
#include "kernels/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/check_shapes.h"
#include "kernels/rounding.h"
#include "runtime/base/check.h"

// The order of these matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "hwy/contrib/math/math-inl.h"
#include "kernels/cpu/simd-inl.h"
// clang-format on

#ifndef CCOE_KERNELS_CPU_ATTENTION_ITEM_
#define CCOE_KERNELS_CPU_ATTENTION_ITEM_
namespace ccoe::kernels {

constexpr int64_t kChunk = 256;  // tokens
// Queries (rows times heads of a group) that share one pass over a chunk: scores and sums then stay
// within L2.
constexpr int64_t kMaxQueries = 96;
// Heads of a group are not cut apart below this many: each part transposes the keys for itself.
constexpr int64_t kMinHeads = 16;

// Some rows of one sequence under some of the heads of one KV head.
struct AttentionItem {
  const SequenceRows* sequence = nullptr;
  int64_t kv_head = 0;
  int64_t row_begin = 0;  // within the sequence's rows
  int64_t row_end = 0;
  int64_t head_begin = 0;  // within the group of the KV head
  int64_t head_end = 0;
  int64_t partial_begin = 0;  // in a split: floats into the partials

  int64_t queries() const { return (row_end - row_begin) * (head_end - head_begin); }
};

}  // namespace ccoe::kernels
#endif  // CCOE_KERNELS_CPU_ATTENTION_ITEM_

HWY_BEFORE_NAMESPACE();
namespace ccoe::kernels {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_TARGET == HWY_NEON
constexpr int64_t kMulRows = 6;
constexpr int64_t kMulVectors = 4;
#else
constexpr int64_t kMulRows = 4;
constexpr int64_t kMulVectors = 2;
#endif
// Keys lie transposed with this stride: not a power of two, which would put all of a key's elements
// in few cache sets.
constexpr int64_t kKeyStride = kChunk + 16;

// The right-hand matrix of MulTile: row k starts at Row(k).
struct StridedRows {
  const float* base;
  int64_t stride;
  HWY_INLINE const float* Row(int64_t k) const { return base + k * stride; }
};
struct PointedRows {
  const float* const* rows;
  HWY_INLINE const float* Row(int64_t k) const { return rows[k]; }
};

#define CCOE_MUL_ROWS(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)
#define CCOE_MUL_ZERO(r) \
  [[maybe_unused]] V c##r##0 = zero, c##r##1 = zero, c##r##2 = zero, c##r##3 = zero;
#define CCOE_MUL_STEP(r)                                         \
  if constexpr (MR > r) {                                        \
    const V ar = hn::Set(d, a[r * a_stride + k]);                \
    c##r##0 = hn::MulAdd(ar, b0, c##r##0);                       \
    if constexpr (NV > 1) c##r##1 = hn::MulAdd(ar, b1, c##r##1); \
    if constexpr (NV > 2) c##r##2 = hn::MulAdd(ar, b2, c##r##2); \
    if constexpr (NV > 3) c##r##3 = hn::MulAdd(ar, b3, c##r##3); \
  }
#define CCOE_MUL_STORE(r)                                                   \
  if constexpr (MR > r) {                                                   \
    hn::StoreU(c##r##0, d, c + r * c_stride);                               \
    if constexpr (NV > 1) hn::StoreU(c##r##1, d, c + r * c_stride + 1 * n); \
    if constexpr (NV > 2) hn::StoreU(c##r##2, d, c + r * c_stride + 2 * n); \
    if constexpr (NV > 3) hn::StoreU(c##r##3, d, c + r * c_stride + 3 * n); \
  }

// c[r][:] = sum over k in [k_begin, k_end), in order, of a[r][k] * b.Row(k)[col + :], for MR rows
// and NV vectors.
template <int MR, int NV, class D, class B>
HWY_NOINLINE void MulTile(D d, const float* HWY_RESTRICT a, int64_t a_stride, const B& b,
                          int64_t col, int64_t k_begin, int64_t k_end, float* HWY_RESTRICT c,
                          int64_t c_stride) {
  using V = hn::Vec<D>;
  constexpr int64_t n = static_cast<int64_t>(hn::MaxLanes(D()));
  const V zero = hn::Zero(d);
  CCOE_MUL_ROWS(CCOE_MUL_ZERO)
  for (int64_t k = k_begin; k < k_end; ++k) {
    const float* HWY_RESTRICT from = b.Row(k) + col;
    const V b0 = hn::LoadU(d, from);
    [[maybe_unused]] const V b1 = NV > 1 ? hn::LoadU(d, from + (NV > 1 ? n : 0)) : zero;
    [[maybe_unused]] const V b2 = NV > 2 ? hn::LoadU(d, from + (NV > 2 ? 2 * n : 0)) : zero;
    [[maybe_unused]] const V b3 = NV > 3 ? hn::LoadU(d, from + (NV > 3 ? 3 * n : 0)) : zero;
    CCOE_MUL_ROWS(CCOE_MUL_STEP)
  }
  CCOE_MUL_ROWS(CCOE_MUL_STORE)
}

#undef CCOE_MUL_ROWS
#undef CCOE_MUL_ZERO
#undef CCOE_MUL_STEP
#undef CCOE_MUL_STORE

// A product of small matrices: a [rows, *], b as above, c [rows, cols].
template <class B>
struct Product {
  const float* a;
  int64_t a_stride;
  B b;
  int64_t k_begin;
  int64_t k_end;
  float* c;
  int64_t c_stride;
};

template <int NV, class D, class B>
void MulRows(D d, const Product<B>& p, int64_t rows, int64_t col) {
  int64_t r = 0;
  while (r < rows) {
    const float* a = p.a + r * p.a_stride;
    float* c = p.c + r * p.c_stride + col;
    const int64_t left = rows - r;
    if (kMulRows >= 6 && (left == 6 || left >= 12)) {
      MulTile<kMulRows, NV>(d, a, p.a_stride, p.b, col, p.k_begin, p.k_end, c, p.c_stride);
      r += kMulRows;
    } else if (left >= 4) {
      MulTile<4, NV>(d, a, p.a_stride, p.b, col, p.k_begin, p.k_end, c, p.c_stride);
      r += 4;
    } else if (left >= 2) {
      MulTile<2, NV>(d, a, p.a_stride, p.b, col, p.k_begin, p.k_end, c, p.c_stride);
      r += 2;
    } else {
      MulTile<1, NV>(d, a, p.a_stride, p.b, col, p.k_begin, p.k_end, c, p.c_stride);
      r += 1;
    }
  }
}

// Columns [0, cols): as many whole vectors as there are, then narrower ones. All lanes are
// independent, so widths do not matter to the result.
template <class B>
void Multiply(const Product<B>& p, int64_t rows, int64_t cols) {
  const DF d;
  int64_t col = 0;
  for (; col + kMulVectors * kLanes <= cols; col += kMulVectors * kLanes)
    MulRows<kMulVectors>(d, p, rows, col);
  for (; col + kLanes <= cols; col += kLanes) MulRows<1>(d, p, rows, col);
#if HWY_TARGET != HWY_SCALAR
  const hn::CappedTag<float, 4> d4;
  for (; col + 4 <= cols; col += 4) MulRows<1>(d4, p, rows, col);
#endif
  const hn::CappedTag<float, 1> d1;
  for (; col < cols; ++col) MulRows<1>(d1, p, rows, col);
}

// Copies `count` tokens' keys, [count, head_dim], into columns of `to` (stride kKeyStride).
void TransposeKeys(const float* HWY_RESTRICT from, int64_t count, int64_t head_dim,
                   float* HWY_RESTRICT to) {
  int64_t j = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::CappedTag<float, 4> d4;
  for (; j + 4 <= count; j += 4) {
    const float* row = from + j * head_dim;
    int64_t i = 0;
    for (; i + 4 <= head_dim; i += 4) {
      const auto r0 = hn::LoadU(d4, row + i);
      const auto r1 = hn::LoadU(d4, row + head_dim + i);
      const auto r2 = hn::LoadU(d4, row + 2 * head_dim + i);
      const auto r3 = hn::LoadU(d4, row + 3 * head_dim + i);
      const auto low01 = hn::InterleaveLower(d4, r0, r1), low23 = hn::InterleaveLower(d4, r2, r3);
      const auto high01 = hn::InterleaveUpper(d4, r0, r1), high23 = hn::InterleaveUpper(d4, r2, r3);
      float* out = to + i * kKeyStride + j;
      hn::StoreU(hn::ConcatLowerLower(d4, low23, low01), d4, out);
      hn::StoreU(hn::ConcatUpperUpper(d4, low23, low01), d4, out + kKeyStride);
      hn::StoreU(hn::ConcatLowerLower(d4, high23, high01), d4, out + 2 * kKeyStride);
      hn::StoreU(hn::ConcatUpperUpper(d4, high23, high01), d4, out + 3 * kKeyStride);
    }
    for (; i < head_dim; ++i) {
      for (int64_t t = 0; t < 4; ++t) to[i * kKeyStride + j + t] = row[t * head_dim + i];
    }
  }
#endif
  for (; j < count; ++j) {
    for (int64_t i = 0; i < head_dim; ++i) to[i * kKeyStride + j] = from[j * head_dim + i];
  }
}

// What a chunk, or all chunks so far, gave for each query.
struct Sums {
  float* m = nullptr;  // [queries] the largest score
  float* l = nullptr;  // [queries] sum of exp(score - m)
  float* o = nullptr;  // [queries, head_dim] sum of exp(score - m) * v
};

constexpr int64_t SumsFloats(int64_t queries, int64_t head_dim) { return queries * (head_dim + 2); }

Sums SumsAt(float* memory, int64_t queries, int64_t head_dim) {
  return {memory, memory + queries, memory + 2 * queries};
}

float ExpOne(float x) {
  const DF d;
  return hn::GetLane(hn::Exp(d, hn::Set(d, x)));
}

// total = total and part, which lies behind it. A query that saw nothing of the part keeps its
// total.
void Combine(const Sums& part, int64_t queries, int64_t head_dim, const Sums& total) {
  const DF d;
  for (int64_t q = 0; q < queries; ++q) {
    if (part.l[q] == 0.0f) continue;
    const float m = std::max(total.m[q], part.m[q]);
    const float keep = ExpOne(total.m[q] - m);
    const float add = ExpOne(part.m[q] - m);
    total.l[q] = total.l[q] * keep + part.l[q] * add;
    total.m[q] = m;
    float* HWY_RESTRICT o = total.o + q * head_dim;
    const float* HWY_RESTRICT from = part.o + q * head_dim;
    const VF keep_v = hn::Set(d, keep), add_v = hn::Set(d, add);
    int64_t i = 0;
    for (; i + kLanes <= head_dim; i += kLanes) {
      hn::StoreU(
          hn::Add(hn::Mul(hn::LoadU(d, o + i), keep_v), hn::Mul(hn::LoadU(d, from + i), add_v)), d,
          o + i);
    }
    for (; i < head_dim; ++i) o[i] = o[i] * keep + from[i] * add;
  }
}

// One item: its queries and the memory to work on them.
class ItemRunner {
 public:
  ItemRunner(const PagedAttentionArgs& args, const AttentionItem& item)
      : args_(args),
        item_(item),
        head_dim_(args.cache.head_dim),
        group_(args.heads / args.cache.kv_heads),
        heads_(item.head_end - item.head_begin),
        queries_(item.queries()) {
    const int64_t sums = SumsFloats(queries_, head_dim_);
    // Whole cache lines each, so that vectors do not straddle.
    const int64_t q_floats = RoundUp(queries_ * head_dim_),
                  key_floats = RoundUp(head_dim_ * kKeyStride);
    const int64_t score_floats = queries_ * kKeyStride;
    float* memory =
        ThreadScratch().Floats(q_floats + key_floats + score_floats + 2 * RoundUp(sums));
    q_ = memory;
    keys_ = q_ + q_floats;
    scores_ = keys_ + key_floats;
    part_ = SumsAt(scores_ + score_floats, queries_, head_dim_);
    total_ = SumsAt(scores_ + score_floats + RoundUp(sums), queries_, head_dim_);
    for (int64_t q = 0; q < queries_; ++q) {
      const float* from = static_cast<const float*>(args.q.Row(Row(q))) + Column(q);
      std::memcpy(q_ + q * head_dim_, from, head_dim_ * sizeof(float));
    }
  }

  int64_t ChunkBegin() const { return WindowBegin(Position(0)) / kChunk; }
  int64_t ChunkEnd() const { return Position(queries_ - 1) / kChunk + 1; }

  // All chunks, and out.
  void RunAll() {
    Clear(total_);
    for (int64_t chunk = ChunkBegin(); chunk < ChunkEnd(); ++chunk) {
      RunChunk(chunk, part_);
      Combine(part_, queries_, head_dim_, total_);
    }
    Write();
  }

  void RunChunk(int64_t chunk, const Sums& part) {
    const int64_t first = std::max(chunk * kChunk, WindowBegin(Position(0)));
    const int64_t last = std::min((chunk + 1) * kChunk, Position(queries_ - 1) + 1);
    const int64_t key_begin = first - chunk * kChunk;
    const int64_t key_end = last - chunk * kChunk;
    Gather(chunk, key_begin, key_end);
    const int64_t score_begin = key_begin / kLanes * kLanes;
    const int64_t score_end = (key_end + kLanes - 1) / kLanes * kLanes;
    Multiply(Product<StridedRows>{q_,
                                  head_dim_,
                                  {keys_ + score_begin, kKeyStride},
                                  0,
                                  head_dim_,
                                  scores_ + score_begin,
                                  kKeyStride},
             queries_, score_end - score_begin);
    for (int64_t q = 0; q < queries_; ++q) Softmax(chunk, q, score_begin, score_end, part);
    Multiply(
        Product<PointedRows>{scores_, kKeyStride, {values_}, key_begin, key_end, part.o, head_dim_},
        queries_, head_dim_);
  }

  // Combines the partials of chunks that lie one behind the other, and writes out.
  void CombineAll(float* partials) {
    Clear(total_);
    for (int64_t chunk = ChunkBegin(); chunk < ChunkEnd(); ++chunk) {
      Combine(SumsAt(partials, queries_, head_dim_), queries_, head_dim_, total_);
      partials += SumsFloats(queries_, head_dim_);
    }
    Write();
  }

 private:
  static int64_t RoundUp(int64_t floats) { return (floats + 15) / 16 * 16; }

  // Queries are ordered by row, then by head.
  int64_t Position(int64_t query) const {
    return item_.sequence->first_position + item_.row_begin + query / heads_;
  }

  // The first position that a row at `position` sees.
  int64_t WindowBegin(int64_t position) const {
    return args_.sliding_window > 0 ? std::max<int64_t>(0, position - args_.sliding_window + 1) : 0;
  }

  // Where a query lies in q and out.
  int64_t Row(int64_t query) const {
    return item_.sequence->row_begin + item_.row_begin + query / heads_;
  }
  int64_t Column(int64_t query) const {
    return (item_.kv_head * group_ + item_.head_begin + query % heads_) * head_dim_;
  }

  // True where a row at `position` sees no key of the chunk that starts at `origin`.
  bool SeesNone(int64_t position, int64_t origin) const {
    return position < origin || WindowBegin(position) >= origin + kChunk;
  }

  // Transposed keys and pointers to values of the chunk's tokens [key_begin, key_end).
  void Gather(int64_t chunk, int64_t key_begin, int64_t key_end) {
    const KvLayer& cache = args_.cache;
    for (int64_t j = key_begin; j < key_end;) {
      const int64_t token = chunk * kChunk + j;
      const int64_t page = item_.sequence->block_table[token / cache.page_tokens];
      const int64_t in_page = token % cache.page_tokens;
      const int64_t count = std::min(cache.page_tokens - in_page, key_end - j);
      const int64_t at =
          ((page * cache.kv_heads + item_.kv_head) * cache.page_tokens + in_page) * head_dim_;
      TransposeKeys(static_cast<const float*>(cache.k) + at, count, head_dim_, keys_ + j);
      const float* values = static_cast<const float*>(cache.v) + at;
      for (int64_t i = 0; i < count; ++i) values_[j + i] = values + i * head_dim_;
      j += count;
    }
    // Scores are computed in whole vectors: the lanes at both ends must at least hold numbers.
    for (int64_t j = key_begin / kLanes * kLanes; j < key_begin; ++j) ClearKey(j);
    for (int64_t j = key_end; j % kLanes != 0; ++j) ClearKey(j);
  }

  void ClearKey(int64_t j) {
    for (int64_t i = 0; i < head_dim_; ++i) keys_[i * kKeyStride + j] = 0.0f;
  }

  // Scales and caps the scores of one query and puts minus infinity where it does not see the key.
  // Returns the largest.
  float MaskScores(int64_t position, int64_t origin, int64_t begin, int64_t end,
                   float* HWY_RESTRICT scores) const {
    const DF d;
    const hn::RebindToSigned<DF> di;
    using VI = hn::Vec<decltype(di)>;
    const int64_t low = std::clamp<int64_t>(WindowBegin(position) - origin, 0, kChunk);
    const int64_t high = std::clamp<int64_t>(position + 1 - origin, 0, kChunk);
    const VI below = hn::Set(di, static_cast<int32_t>(low - 1));
    const VI above = hn::Set(di, static_cast<int32_t>(high));
    const VF lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
    const VF scale = hn::Set(d, args_.scale);
    const VF cap = hn::Set(d, args_.soft_cap);
    const VF inverse_cap = hn::Set(d, args_.soft_cap > 0 ? 1.0f / args_.soft_cap : 0.0f);
    VF max = lowest;
    for (int64_t j = begin; j < end; j += kLanes) {
      VF s = hn::Mul(hn::LoadU(d, scores + j), scale);
      if (args_.soft_cap > 0) s = hn::Mul(cap, hn::Tanh(d, hn::Mul(s, inverse_cap)));
      const VI key = hn::Iota(di, static_cast<int32_t>(j));
      const auto sees = hn::RebindMask(d, hn::And(hn::Gt(key, below), hn::Lt(key, above)));
      s = hn::IfThenElse(sees, s, lowest);
      max = hn::Max(max, s);
      hn::StoreU(s, d, scores + j);
    }
    return hn::GetLane(hn::MaxOfLanes(d, max));
  }

  // Scores of one query become weights exp(score - m), zero where it does not see the key.
  void Softmax(int64_t chunk, int64_t query, int64_t begin, int64_t end, const Sums& part) {
    const DF d;
    float* HWY_RESTRICT scores = scores_ + query * kKeyStride;
    const int64_t position = Position(query);
    const int64_t origin = chunk * kChunk;
    const VF lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
    const float m = MaskScores(position, origin, begin, end, scores);
    part.m[query] = m;
    part.l[query] = 0.0f;
    if (SeesNone(position, origin)) {
      std::fill(scores + begin, scores + end, 0.0f);
      return;
    }
    const VF m_v = hn::Set(d, m);
    VF sum = hn::Zero(d);
    for (int64_t j = begin; j < end; j += kLanes) {
      const VF s = hn::LoadU(d, scores + j);
      const VF p = hn::IfThenElse(hn::Eq(s, lowest), hn::Zero(d), hn::Exp(d, hn::Sub(s, m_v)));
      sum = hn::Add(sum, p);
      hn::StoreU(p, d, scores + j);
    }
    part.l[query] = SumLanes(sum);
  }

  void Clear(const Sums& sums) const {
    std::fill(sums.m, sums.m + queries_, -std::numeric_limits<float>::infinity());
    std::fill(sums.l, sums.l + queries_, 0.0f);
    std::fill(sums.o, sums.o + queries_ * head_dim_, 0.0f);
  }

  void Write() const {
    for (int64_t q = 0; q < queries_; ++q) {
      float* HWY_RESTRICT out = static_cast<float*>(args_.out.Row(Row(q))) + Column(q);
      const float* HWY_RESTRICT o = total_.o + q * head_dim_;
      const float inverse = 1.0f / total_.l[q];
      for (int64_t i = 0; i < head_dim_; ++i) out[i] = o[i] * inverse;
    }
  }

  const PagedAttentionArgs& args_;
  const AttentionItem& item_;
  const int64_t head_dim_;
  const int64_t group_;  // heads of a KV head
  const int64_t heads_;  // those of the item
  const int64_t queries_;
  float* q_ = nullptr;       // [queries, head_dim]
  float* keys_ = nullptr;    // [head_dim, kKeyStride]
  float* scores_ = nullptr;  // [queries, kKeyStride]
  Sums part_;
  Sums total_;
  const float* values_[kChunk];
};

void RunItem(const PagedAttentionArgs& args, const AttentionItem& item) {
  ItemRunner(args, item).RunAll();
}

void RunItemChunk(const PagedAttentionArgs& args, const AttentionItem& item, int64_t chunk_index,
                  float* partials) {
  ItemRunner runner(args, item);
  const int64_t queries = item.queries();
  float* memory = partials + chunk_index * SumsFloats(queries, args.cache.head_dim);
  runner.RunChunk(runner.ChunkBegin() + chunk_index, SumsAt(memory, queries, args.cache.head_dim));
}

void CombineItem(const PagedAttentionArgs& args, const AttentionItem& item, float* partials) {
  ItemRunner(args, item).CombineAll(partials);
}

}  // namespace HWY_NAMESPACE
}  // namespace ccoe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ccoe::kernels {
namespace {

HWY_EXPORT(RunItem);
HWY_EXPORT(RunItemChunk);
HWY_EXPORT(CombineItem);

int64_t Chunks(const PagedAttentionArgs& args, const AttentionItem& item) {
  const int64_t first = item.sequence->first_position + item.row_begin;
  const int64_t last = item.sequence->first_position + item.row_end - 1;
  const int64_t seen =
      args.sliding_window > 0 ? std::max<int64_t>(0, first - args.sliding_window + 1) : 0;
  return last / kChunk + 1 - seen / kChunk;
}

// Rows of one sequence by KV heads, the heads of each in `head_blocks` parts.
std::vector<AttentionItem> MakeItems(const PagedAttentionArgs& args, int64_t head_blocks) {
  const int64_t group = args.heads / args.cache.kv_heads;
  const int64_t rows = std::max<int64_t>(1, kMaxQueries / group);
  std::vector<AttentionItem> items;
  for (const SequenceRows& sequence : args.sequences) {
    // Late rows see most, so they go first and the short tasks fill the end.
    for (int64_t end = sequence.row_count; end > 0; end -= std::min(rows, end)) {
      for (int64_t i = 0; i < args.cache.kv_heads * head_blocks; ++i) {
        AttentionItem item;
        item.sequence = &sequence;
        item.kv_head = i / head_blocks;
        item.row_begin = std::max<int64_t>(0, end - rows);
        item.row_end = end;
        item.head_begin = group * (i % head_blocks) / head_blocks;
        item.head_end = group * (i % head_blocks + 1) / head_blocks;
        items.push_back(item);
      }
    }
  }
  return items;
}

int64_t MostChunks(const PagedAttentionArgs& args, absl::Span<const AttentionItem> items) {
  int64_t most = 0;
  for (const AttentionItem& item : items) most = std::max(most, Chunks(args, item));
  return most;
}

// Large groups are cut so that an item's queries stay few, and further while threads would idle.
std::vector<AttentionItem> CutItems(const PagedAttentionArgs& args, int64_t threads) {
  const int64_t group = args.heads / args.cache.kv_heads;
  const int64_t least = CeilDiv(group, kMaxQueries);
  const int64_t most = std::max(least, group / kMinHeads);
  std::vector<AttentionItem> items = MakeItems(args, least);
  if (items.empty() || least == most) return items;
  const int64_t tasks = static_cast<int64_t>(items.size()) * MostChunks(args, items);
  if (tasks >= threads) return items;
  return MakeItems(args, std::min(most, CeilDiv(least * threads, tasks)));
}

struct ChunkTask {
  const AttentionItem* item;
  int64_t chunk;
};

void RunSplit(ThreadTeam* team, Scratch* scratch, const PagedAttentionArgs& args,
              std::vector<AttentionItem>* items) {
  std::vector<ChunkTask> tasks;
  int64_t floats = 0;
  for (AttentionItem& item : *items) {
    item.partial_begin = floats;
    const int64_t chunks = Chunks(args, item);
    for (int64_t chunk = 0; chunk < chunks; ++chunk) tasks.push_back({&item, chunk});
    floats += chunks * item.queries() * (args.cache.head_dim + 2);
  }
  float* partials = scratch->Floats(floats);
  const auto run_chunk = HWY_DYNAMIC_DISPATCH(RunItemChunk);
  const auto combine = HWY_DYNAMIC_DISPATCH(CombineItem);
  team->Run(static_cast<int64_t>(tasks.size()), [&](int64_t task) {
    const ChunkTask& t = tasks[task];
    run_chunk(args, *t.item, t.chunk, partials + t.item->partial_begin);
  });
  team->Run(static_cast<int64_t>(items->size()), [&](int64_t i) {
    const AttentionItem& item = (*items)[i];
    combine(args, item, partials + item.partial_begin);
  });
}

}  // namespace

void CpuPagedAttention(ThreadTeam* team, Scratch* partials, const PagedAttentionArgs& args) {
  CheckShapes(args);
  CCOE_CHECK(args.cache.dtype == DType::kF32);
  const int64_t threads = team->size();
  std::vector<AttentionItem> items = CutItems(args, threads);
  if (threads > 1 && MostChunks(args, items) > 1 &&
      static_cast<int64_t>(items.size()) < 4 * threads) {
    return RunSplit(team, partials, args, &items);
  }
  const auto run = HWY_DYNAMIC_DISPATCH(RunItem);
  team->Run(static_cast<int64_t>(items.size()), [&](int64_t i) { run(args, items[i]); });
}

}  // namespace ccoe::kernels
#endif  // HWY_ONCE
