// SPDX-License-Identifier: Apache-2.0
// Arguments of the attention ops: rotary embedding, the append to the paged KV cache, paged
// attention.
#ifndef CCOE_KERNELS_ATTENTION_H_
#define CCOE_KERNELS_ATTENTION_H_

#include <cstdint>

#include "absl/types/span.h"
#include "kernels/dtype.h"
#include "kernels/view.h"

namespace ccoe::kernels {

// The KV pages of one layer, borrowed. K and V each lie as [pages, kv_heads, page_tokens,
// head_dim], contiguous. A token's slot is page * page_tokens + offset in the page. With v == k the
// keys are the values too (multi-head latent attention): one copy is kept.
struct KvLayer {
  void* k = nullptr;
  void* v = nullptr;
  DType dtype = DType::kF32;
  int64_t pages = 0;
  int64_t page_tokens = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
};

// Consecutive rows of a batch that are consecutive tokens of one sequence.
struct SequenceRows {
  int64_t row_begin = 0;
  int64_t row_count = 0;
  // Position of the first row in its sequence; before it, `first_position` tokens are in the cache.
  int64_t first_position = 0;
  // Page of tokens [i * page_tokens, (i + 1) * page_tokens) of the sequence, for all tokens up to
  // the last row's.
  absl::Span<const int32_t> block_table;
};

enum class RopeStyle : uint8_t {
  kHalfSplit,    // pairs (i, i + rotary_dim / 2): the Hugging Face "rotate_half" convention
  kInterleaved,  // pairs (2i, 2i + 1)
};

// cos.Row(r)[i] = magnitude * cos(positions[r] * frequencies[i]), and sin likewise. The angle is
// rounded to f32; its cosine is taken in double, rounded to f32 and multiplied. A row depends on
// its position alone.
struct RopeAnglesArgs {
  absl::Span<const int64_t> positions;  // [rows], not negative; host memory
  absl::Span<const float> frequencies;  // [rotary_dim / 2], radians a position; host memory
  float magnitude = 1.0f;
  Matrix cos, sin;  // [rows, rotary_dim / 2] f32
};

struct RopeAndAppendKvArgs {
  Matrix q;         // [rows, heads * head_dim] f32, rotated in place
  Matrix k;         // [rows, kv_heads * head_dim] f32, rotated in place, then written to the cache
  ConstMatrix v;    // [rows, kv_heads * head_dim] f32, written to the cache; empty where cache.v ==
                    // cache.k
  ConstMatrix cos;  // [rows, rotary_dim / 2] f32; rotary_dim <= head_dim, the rest of a head passes
                    // unchanged
  ConstMatrix sin;  // [rows, rotary_dim / 2] f32
  RopeStyle style = RopeStyle::kHalfSplit;
  absl::Span<const int64_t> slots;  // [rows] where each row's K and V go
  KvLayer cache;
};

struct PagedAttentionArgs {
  ConstMatrix q;  // [rows, heads * head_dim] f32; heads is a multiple of cache.kv_heads
  int64_t heads = 0;
  KvLayer cache;  // already holds K and V of these rows
  absl::Span<const SequenceRows> sequences;
  float scale = 1.0f;          // q.k is multiplied with it, usually head_dim^-0.5
  int64_t sliding_window = 0;  // 0: none; else position i sees j with i - sliding_window < j <= i
  float soft_cap = 0.0f;       // 0: none; else scores become soft_cap * tanh(score / soft_cap)
  Matrix out;                  // [rows, heads * head_dim] f32
};

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_ATTENTION_H_
