// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/moe_sort.h"
#include "kernels/cuda/ptx.cuh"

namespace ccoe::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;

// The sum over all threads of a block, which all get. `sums` is free for others' use once all
// threads are behind the next barrier.
__device__ __forceinline__ int32_t BlockSum(int32_t value, int32_t (&sums)[kWarps]) {
  const int32_t of_warp = __reduce_add_sync(kAllLanes, value);
  if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = of_warp;
  __syncthreads();
  int32_t total = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) total += sums[w];
  return total;
}

// Counts of a shared-memory histogram do not depend on the order of its increments.
__device__ __forceinline__ void CountPairs(const SortPairsParams& p, int32_t* counts) {
  for (int32_t e = threadIdx.x; e < p.experts; e += kThreads) counts[e] = 0;
  __syncthreads();
  for (int64_t i = threadIdx.x; i < p.pairs; i += kThreads) {
    const int32_t e = p.chosen[i];
    if (e >= 0 && e < p.experts) atomicAdd(&counts[e], 1);
  }
  __syncthreads();
}

// This expert's pairs, in order, to places from `next` on; `end` is behind the last.
__device__ __forceinline__ void PlacePairs(const SortPairsParams& p, int32_t expert, int32_t next,
                                           int32_t end, int32_t (&counts)[kWarps]) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  for (int64_t begin = 0; next < end; begin += kThreads) {  // the same for all threads
    const int64_t i = begin + threadIdx.x;
    const bool mine = i < p.pairs && p.chosen[i] == expert;
    const unsigned lanes = __ballot_sync(kAllLanes, mine);
    if (lane == 0) counts[warp] = __popc(lanes);
    __syncthreads();
    int32_t at = next + __popc(lanes & ((1u << lane) - 1));
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      if (w < warp) at += counts[w];
      next += counts[w];
    }
    if (mine) {
      p.x_rows[at] = static_cast<int32_t>(i / p.top_k);
      p.out_rows[at] = static_cast<int32_t>(i);
      p.pair_weights[at] = p.weights[i];
    }
    __syncthreads();  // the counts have been read
  }
}

__global__ void __launch_bounds__(kThreads) SortPairsKernel(const SortPairsParams p) {
  CCOE_DYNAMIC_SHARED(int32_t, counts);  // [experts]
  __shared__ int32_t pair_sums[kWarps], tile_sums[kWarps], place_counts[kWarps];
  CountPairs(p, counts);
  const auto tiles_of = [&](int32_t count) { return (count + p.tile_rows - 1) / p.tile_rows; };
  const int32_t expert = static_cast<int32_t>(blockIdx.x);
  int32_t pairs_before = 0, tiles_before = 0;
  for (int32_t e = threadIdx.x; e < expert; e += kThreads) {
    pairs_before += counts[e];
    tiles_before += tiles_of(counts[e]);
  }
  pairs_before = BlockSum(pairs_before, pair_sums);
  tiles_before = BlockSum(tiles_before, tile_sums);
  const int32_t count = counts[expert], tiles = tiles_of(count);
  if (expert == p.experts - 1 && threadIdx.x == 0) *p.tile_count = tiles_before + tiles;
  for (int32_t t = threadIdx.x; t < tiles; t += kThreads) {
    const int32_t at = t * p.tile_rows;
    p.tiles[tiles_before + t] = {expert, pairs_before + at, min(p.tile_rows, count - at)};
  }
  PlacePairs(p, expert, pairs_before, pairs_before + count, place_counts);
}

}  // namespace

void CudaSortPairs(Launcher* launcher, const SortPairsParams& params) {
  LaunchShape shape;
  shape.grid_x = params.experts;
  shape.block = kThreads;
  shape.shared_bytes = params.experts * sizeof(int32_t);
  launcher->Launch<SortPairsKernel>(shape, params);
}

}  // namespace ccoe::kernels
