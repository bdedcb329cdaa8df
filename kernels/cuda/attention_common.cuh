// SPDX-License-Identifier: Apache-2.0
// What the attention kernels share.
#ifndef CCOE_KERNELS_CUDA_ATTENTION_COMMON_CUH_
#define CCOE_KERNELS_CUDA_ATTENTION_COMMON_CUH_

#include "kernels/cuda/attention.h"
#include "kernels/cuda/device_math.cuh"

namespace ccoe::kernels {

__device__ __forceinline__ int64_t PositionOf(const AttentionParams& p, const AttentionItem& item,
                                              int64_t query) {
  return item.first_position + (item.query_begin + query) / p.group;
}

// The first position that a row at `position` sees.
__device__ __forceinline__ int64_t WindowBegin(const AttentionParams& p, int64_t position) {
  if (p.sliding_window <= 0) return 0;
  return max(int64_t{0}, position - p.sliding_window + 1);
}

// The tokens of chunk `chunk` that some query of the item sees.
struct TokenRange {
  int64_t begin, end;
};
__device__ __forceinline__ TokenRange SeenTokens(const AttentionParams& p,
                                                 const AttentionItem& item, int64_t chunk) {
  const int64_t first = PositionOf(p, item, 0), last = PositionOf(p, item, item.query_count - 1);
  return {max(chunk * kAttentionChunk, WindowBegin(p, first)),
          min((chunk + 1) * kAttentionChunk, last + 1)};
}

// Where a token's key (and value) of a KV head begins in the cache, in elements.
__device__ __forceinline__ int64_t TokenPlace(const AttentionParams& p, const AttentionItem& item,
                                              int64_t kv_head, int64_t token) {
  const int64_t page = p.tables[item.table_begin + token / p.page_tokens];
  return ((page * p.kv_heads + kv_head) * p.page_tokens + token % p.page_tokens) * p.head_dim;
}

__device__ __forceinline__ int64_t QueryRow(const AttentionParams& p, const AttentionItem& item,
                                            int64_t query) {
  return item.row_begin + (item.query_begin + query) / p.group;
}
__device__ __forceinline__ int64_t QueryColumn(const AttentionParams& p, const AttentionItem& item,
                                               int64_t kv_head, int64_t query) {
  return (kv_head * p.group + (item.query_begin + query) % p.group) * p.head_dim;
}

__device__ __forceinline__ float ScaledScore(const AttentionParams& p, float score) {
  score *= p.scale;
  return p.soft_cap > 0.0f ? p.soft_cap * tanhf(score / p.soft_cap) : score;
}

// How a chunk's sums (m, l) join the ones before it: total = total * keep + part * add.
struct Joining {
  float m, l, keep, add;
};
__device__ __forceinline__ Joining Join(float total_m, float total_l, float m, float l) {
  // A query that saw nothing of the chunk keeps what it has.
  if (l == 0.0f) return {total_m, total_l, 1.0f, 0.0f};
  Joining joined;
  joined.m = fmaxf(total_m, m);
  joined.keep = expf(total_m - joined.m);  // 0 where there was nothing before
  joined.add = expf(m - joined.m);
  joined.l = total_l * joined.keep + l * joined.add;
  return joined;
}
__device__ __forceinline__ float JoinValue(const Joining& joined, float total, float part) {
  return joined.add == 0.0f && joined.keep == 1.0f ? total
                                                   : total * joined.keep + part * joined.add;
}

__device__ __forceinline__ float* PartialAt(const AttentionParams& p, int64_t partial,
                                            int64_t kv_head, int64_t query) {
  return p.partials + ((partial * p.kv_heads + kv_head) * p.query_tile + query) * (p.head_dim + 2);
}

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_ATTENTION_COMMON_CUH_
