// SPDX-License-Identifier: Apache-2.0
#include "kernels/check_shapes.h"

#include <cstdint>

#include "runtime/base/check.h"

namespace ccoe::kernels {
namespace {

bool IsF32(const ConstMatrix& m) { return m.dtype == DType::kF32; }

bool IsF32(const ConstMatrix& m, int64_t rows, int64_t cols) {
  return IsF32(m) && m.rows == rows && m.cols == cols;
}

bool IsWeight(const ConstMatrix& m, int64_t rows, int64_t cols) {
  return IsFloat(m.dtype) && m.rows == rows && m.cols == cols;
}

template <class T>
int64_t Size(absl::Span<const T> span) {
  return static_cast<int64_t>(span.size());
}

}  // namespace

void CheckShapes(const HeadLinearArgs& args) {
  CCOE_CHECK(args.heads >= 0 && args.x_step >= 0);
  CCOE_CHECK(IsF32(args.x) && IsFloat(args.weight.dtype) && args.weight.cols == args.x.cols);
  CCOE_CHECK(IsF32(args.out, args.x.rows, args.weight.rows));
  if (args.heads < 2) return;
  CCOE_CHECK(args.weight_step >= args.weight.rows && args.out_step >= args.out.cols);
  CCOE_CHECK((args.heads - 1) * args.x_step + args.x.cols <= args.x.stride);
  CCOE_CHECK((args.heads - 1) * args.out_step + args.out.cols <= args.out.stride);
}

void CheckShapes(const RopeAnglesArgs& args) {
  const int64_t rows = Size(args.positions), pairs = Size(args.frequencies);
  CCOE_CHECK(IsF32(args.cos, rows, pairs) && IsF32(args.sin, rows, pairs));
  for (int64_t position : args.positions) CCOE_CHECK(position >= 0);
}

void CheckShapes(const RopeAndAppendKvArgs& args) {
  const KvLayer& cache = args.cache;
  const int64_t rows = args.q.rows;
  CCOE_CHECK(IsF32(args.q) && IsF32(args.k) && IsFloat(cache.dtype));
  CCOE_CHECK(args.v.empty() == (cache.v == cache.k));
  CCOE_CHECK(args.v.empty() || IsF32(args.v, rows, args.k.cols));
  CCOE_CHECK(IsF32(args.cos) && IsF32(args.sin, rows, args.cos.cols) && args.cos.rows == rows);
  CCOE_CHECK(args.k.rows == rows && Size(args.slots) == rows);
  CCOE_CHECK(cache.head_dim > 0 && args.q.cols % cache.head_dim == 0);
  CCOE_CHECK(args.k.cols == cache.kv_heads * cache.head_dim);
  CCOE_CHECK(2 * args.cos.cols <= cache.head_dim);
  for (int64_t slot : args.slots) CCOE_CHECK(slot >= 0 && slot < cache.pages * cache.page_tokens);
}

void CheckShapes(const PagedAttentionArgs& args) {
  const KvLayer& cache = args.cache;
  CCOE_CHECK(IsF32(args.q) && IsF32(args.out) && IsFloat(cache.dtype));
  CCOE_CHECK(cache.kv_heads > 0 && cache.head_dim > 0 && cache.page_tokens > 0);
  CCOE_CHECK(args.heads > 0 && args.heads % cache.kv_heads == 0);
  CCOE_CHECK(args.q.cols == args.heads * cache.head_dim && args.out.cols == args.q.cols);
  for (const SequenceRows& sequence : args.sequences) {
    const int64_t tokens = sequence.first_position + sequence.row_count;
    CCOE_CHECK(sequence.row_begin >= 0 && sequence.row_begin + sequence.row_count <= args.q.rows);
    CCOE_CHECK(Size(sequence.block_table) * cache.page_tokens >= tokens);
  }
}

void CheckShapes(const TopKGateArgs& args) {
  const GateForm& form = args.form;
  const int64_t rows = args.logits.rows, experts = args.logits.cols;
  CCOE_CHECK(IsF32(args.logits) && experts > 0);
  CCOE_CHECK(form.top_k > 0 && form.top_k <= experts);
  CCOE_CHECK(form.groups > 0 && experts % form.groups == 0);
  CCOE_CHECK(form.top_groups > 0 && form.top_groups <= form.groups);
  CCOE_CHECK(args.selection_bias.empty() ||
             (IsFloat(args.selection_bias.dtype) && args.selection_bias.cols == experts));
  CCOE_CHECK(args.row_k.empty() || Size(args.row_k) == rows);
  for (int32_t k : args.row_k) CCOE_CHECK(k >= 1 && k <= form.top_k);
  if (args.row_steering.empty()) return;
  CCOE_CHECK(Size(args.row_steering) == rows);
  for (int32_t s : args.row_steering) CCOE_CHECK(s >= -1 && s < args.steering.rows);
  CCOE_CHECK(args.steering.empty() || (IsF32(args.steering) && args.steering.cols == experts));
}

void CheckShapes(const GroupedFfnArgs& args) {
  const int64_t pairs = Size(args.x_rows), hidden = args.x.cols;
  CCOE_CHECK(IsF32(args.x) && IsF32(args.out) && args.out.cols == hidden && hidden > 0);
  CCOE_CHECK(Size(args.out_rows) == pairs && Size(args.weights) == pairs);
  for (const ExpertGroup& group : args.groups) {
    const int64_t intermediate = args.groups[0].gate.rows;
    CCOE_CHECK(IsWeight(group.gate, intermediate, hidden));
    CCOE_CHECK(IsWeight(group.up, intermediate, hidden));
    CCOE_CHECK(IsWeight(group.down, hidden, intermediate) && intermediate > 0);
    CCOE_CHECK(group.pair_count >= 0 && group.pair_begin >= 0 &&
               group.pair_begin + group.pair_count <= pairs);
  }
  for (int64_t p = 0; p < pairs; ++p) {
    CCOE_CHECK(args.x_rows[p] >= 0 && args.x_rows[p] < args.x.rows);
    CCOE_CHECK(args.out_rows[p] >= 0 && args.out_rows[p] < args.out.rows);
  }
}

}  // namespace ccoe::kernels
