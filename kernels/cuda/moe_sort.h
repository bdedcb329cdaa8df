// SPDX-License-Identifier: Apache-2.0
// Sorting the pairs of a gate's choice by expert, on the device.
#ifndef CCOE_KERNELS_CUDA_MOE_SORT_H_
#define CCOE_KERNELS_CUDA_MOE_SORT_H_

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/matmul.h"

namespace ccoe::kernels {

// Slot i of `chosen` is pair i, of row i / top_k. Places the pairs whose expert is not negative in
// order of expert, then row: a pair's x_rows is its row, out_rows its number. Cuts those of each
// expert into tiles of tile_rows (the last may have fewer). All pointers are device memory.
// One block of 256 threads an expert, each over all pairs; shared memory: 4 bytes an expert.
struct SortPairsParams {
  const int32_t* chosen;  // [pairs]
  const float* weights;   // [pairs]
  int64_t pairs;
  int32_t top_k, experts, tile_rows;
  int32_t *x_rows, *out_rows;  // [pairs]
  float* pair_weights;         // [pairs]
  MatmulTile* tiles;           // [MaxTiles]
  int32_t* tile_count;
};
void CudaSortPairs(Launcher* launcher, const SortPairsParams& params);

// At most so many tiles, however `pairs` pairs fall on `experts` experts.
constexpr int64_t MaxTiles(int64_t pairs, int64_t experts, int64_t tile_rows) {
  // Every expert that occurs may leave one tile with a single pair.
  const int64_t used = pairs < experts ? pairs : experts;
  return (pairs + used * (tile_rows - 1)) / tile_rows;
}

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_MOE_SORT_H_
