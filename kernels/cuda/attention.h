// SPDX-License-Identifier: Apache-2.0
// Paged attention in chunks of kAttentionChunk tokens, cut at fixed absolute positions: for each
// query (a row under a head) a chunk gives a maximum m, a sum l of exp(score - m) and a weighted
// sum o of values; chunks are combined in order of position (Milakov and Gimelshein 2018, arXiv
// 1805.02867; Dao et al. 2022, arXiv 2205.14135). A block does some queries over all their chunks,
// or over one of them and CudaAttentionCombine does the rest with the same function: the same bits
// either way. Keys that a query does not see enter with weight zero, which changes no sum.
#ifndef CCOE_KERNELS_CUDA_ATTENTION_H_
#define CCOE_KERNELS_CUDA_ATTENTION_H_

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/params.h"

namespace ccoe::kernels {

constexpr int kAttentionChunk = 256;
constexpr int64_t kMaxHeadDim = 1024;

// Consecutive queries of one sequence. Query i of a sequence is its row i / group under head i %
// group of the block's KV head.
struct AttentionItem {
  int32_t row_begin;       // of the sequence, in the batch
  int32_t first_position;  // of the sequence's first row
  int32_t query_begin, query_count;
  int32_t table_begin;  // of the sequence, in `tables`
  int32_t chunk_begin, chunk_end;
  int32_t partial;  // where its chunk goes in partials; -1: all chunks, straight to out
};

// Partial p of KV head h: [query_tile][head_dim + 2] f32 (o, then m and l) at
// ((p * kv_heads) + h) * query_tile * (head_dim + 2).
struct AttentionParams {
  View q, out;
  const void *k, *v;
  DType dtype;  // of the cache
  int64_t page_tokens, kv_heads, head_dim;
  int64_t group;  // heads of a KV head
  int64_t sliding_window;
  float scale, soft_cap;
  const AttentionItem* items;  // device memory, like the next two
  const int32_t* item_count;   // <= gridDim.x
  const int32_t* tables;
  float* partials;
  int32_t query_tile;  // queries of an item at most, for the layout of partials
};

// Any head_dim up to 1024 and any cache dtype, in f32 on the ordinary cores. Grid [items,
// kv_heads], 256 threads; shared memory: AttentionGeneralShared. Queries of an item:
// AttentionGeneralQueries.
int AttentionGeneralQueries(int64_t head_dim);
size_t AttentionGeneralShared(int64_t head_dim);
void CudaAttentionGeneral(Launcher* launcher, const AttentionParams& params, int64_t items);

// Tensor cores: a cache of f16 or bf16 and head_dim 64, 128 or 256; q and the weights of keys are
// rounded to the cache's dtype. Grid [items, kv_heads]; a warp has 16 queries, an item 16 (one
// warp) or 64 (four). Shared memory: AttentionMmaShared.
bool AttentionMmaTakes(DType dtype, int64_t head_dim);
void CudaAttentionMma(Launcher* launcher, const AttentionParams& params, int64_t items, int warps);
// Its part for heads of 256; `shape` has the grid.
void CudaAttentionMma256(Launcher* launcher, const LaunchShape& shape, int warps,
                         const AttentionParams& params);

constexpr int AttentionMmaKeys(int64_t head_dim) { return head_dim <= 128 ? 64 : 32; }
// Floats: four rows of a quad's pairs of sums fill all banks.
constexpr int kAttentionMmaPadding = 8;
// Two stages of 16-bit keys and values; sums over chunks, unless each chunk goes to a partial.
constexpr size_t AttentionMmaShared(int64_t head_dim, int warps, bool partials) {
  const int64_t stages = 2 * 2 * AttentionMmaKeys(head_dim) * head_dim * 2;
  const int64_t sums = warps * 16 * (head_dim + kAttentionMmaPadding) * 4;
  return static_cast<size_t>(partials ? stages : stages + sums);
}

// For each item: the sum of its chunks [chunk_begin, chunk_end), which lie at partial, partial + 1,
// ... Grid [items, kv_heads, query_tile], 128 threads.
void CudaAttentionCombine(Launcher* launcher, const AttentionParams& params, int64_t items);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_ATTENTION_H_
