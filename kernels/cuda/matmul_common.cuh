// SPDX-License-Identifier: Apache-2.0
// What the matrix-product kernels share.
#ifndef CCOE_KERNELS_CUDA_MATMUL_COMMON_CUH_
#define CCOE_KERNELS_CUDA_MATMUL_COMMON_CUH_

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/ptx.cuh"

namespace ccoe::kernels {

// What a block works on.
struct BlockWork {
  const MatmulPart* part;
  int64_t col_begin;
  int64_t row_begin, row_count;
};

// False where the block has nothing to do (the same for all its threads).
__device__ __forceinline__ bool FindWork(const MatmulParams& p, int64_t block_cols,
                                         int64_t block_rows, BlockWork* work) {
  if (p.tiles != nullptr) {
    if (blockIdx.y >= *p.tile_count) return false;
    const MatmulTile tile = p.tiles[blockIdx.y];
    work->part = &p.groups[tile.group];
    work->col_begin = blockIdx.x * block_cols;
    work->row_begin = tile.row_begin;
    work->row_count = tile.row_count;
    return work->col_begin < work->part->cols;
  }
  int part = 0;
  while (part + 1 < p.part_count && blockIdx.x >= p.parts[part + 1].block_begin) ++part;
  work->part = &p.parts[part];
  work->col_begin = (blockIdx.x - work->part->block_begin) * block_cols;
  work->row_begin = blockIdx.y * block_rows;
  work->row_count = min(block_rows, p.rows - work->row_begin);
  return true;
}

// Where a block's head reads. (A split's blocks lie in z too: there all steps are zero.)
template <class T>
__device__ __forceinline__ const T* XRow(const MatmulParams& p, int64_t row) {
  return static_cast<const T*>(p.x) + blockIdx.z * p.head_x +
         (p.x_rows == nullptr ? row : p.x_rows[row]) * p.x_stride;
}
__device__ __forceinline__ const char* HeadWeight(const MatmulParams& p, const MatmulPart& part) {
  return static_cast<const char*>(part.weight) + blockIdx.z * p.head_weight;
}

// A finished product of kPlain or kDown.
template <MatmulKind kKind>
__device__ __forceinline__ void StoreProduct(const MatmulParams& p, const MatmulPart& part,
                                             int64_t row, int64_t col, float value) {
  if constexpr (kKind == MatmulKind::kDown) {
    p.out[p.out_rows[row] * p.out_stride + col] = p.weights[row] * value;
  } else {
    if (part.bias != nullptr) value += LoadElement(part.bias, part.bias_dtype, col);
    float* out = part.out == nullptr
                     ? p.out + row * p.out_stride + col
                     : part.out + blockIdx.z * p.head_out + row * part.out_stride + col;
    *out = part.accumulate ? *out + value : value;
  }
}

__device__ __forceinline__ uint32_t PackBf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// Eight elements at `k` of a row of [.., features], as bf16; zero beyond the features.
__device__ __forceinline__ uint4 LoadEightSlow(const void* row, DType dtype, int64_t k,
                                               int64_t features) {
  float values[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    values[i] = k + i < features ? LoadElement(row, dtype, k + i) : 0.0f;
  }
  return {PackBf16(values[0], values[1]), PackBf16(values[2], values[3]),
          PackBf16(values[4], values[5]), PackBf16(values[6], values[7])};
}

// 32 features: lane l brings the eight features 8 * (l % 4) and on of its rows. Which feature sits
// in which slot of a step is free as long as both sides agree; so each lane loads 16 bytes at once.
__device__ __forceinline__ void MmaFeatures32(const uint4& low, const uint4& high, const uint4& x,
                                              float (&c)[4]) {
  MmaBf16(low.x, high.x, low.y, high.y, x.x, x.y, c);
  MmaBf16(low.z, high.z, low.w, high.w, x.z, x.w, c);
}

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_MATMUL_COMMON_CUH_
