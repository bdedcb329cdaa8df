// SPDX-License-Identifier: Apache-2.0
// Few rows: weights stream from memory into registers once, 16 bytes a lane, several loads ahead.
#include "kernels/cuda/matmul_common.cuh"

namespace ccoe::kernels {
namespace {

constexpr int kBlockCols = 16;

// A row of weights; null: zeros.
struct WeightRow {
  const char* data;
  DType dtype;
};

__device__ __forceinline__ WeightRow RowAt(const void* weight, DType dtype, int64_t stride,
                                           int64_t col, int64_t cols) {
  if (col >= cols) return {nullptr, dtype};
  const int64_t bytes = dtype == DType::kF32 ? 4 : 2;
  return {static_cast<const char*>(weight) + col * stride * bytes, dtype};
}

template <bool kFast>
__device__ __forceinline__ uint4 LoadWeights(const WeightRow& row, int k, int features) {
  if (row.data == nullptr || k >= features) return {0, 0, 0, 0};
  if constexpr (kFast) return LoadStreaming(row.data + int64_t{k} * 2);
  return LoadEightSlow(row.data, row.dtype, k, features);
}

template <bool kFast>
__device__ __forceinline__ uint4 LoadX(const float* row, int k, int features) {
  if (row == nullptr || k >= features) return {0, 0, 0, 0};
  if constexpr (kFast) {
    const float4 low = *reinterpret_cast<const float4*>(row + k);
    const float4 high = *reinterpret_cast<const float4*>(row + k + 4);
    return {PackBf16(low.x, low.y), PackBf16(low.z, low.w), PackBf16(high.x, high.y),
            PackBf16(high.z, high.w)};
  }
  return LoadEightSlow(row, DType::kF32, k, features);
}

// Warp w sums segment w for 16 columns (of both matrices where gated) by 8 * kRowTiles rows; then
// all threads add the segments in order.
template <MatmulKind kKind, int kRowTiles, bool kFast>
__global__ void __launch_bounds__(kSegments* kWarp, 3)
    SkinnyKernel(const __grid_constant__ MatmulParams p) {
  constexpr int kMatrices = kKind == MatmulKind::kGated ? 2 : 1;
  constexpr int kDepth = 4 / kMatrices;  // steps of 64 features whose weights are on their way
  constexpr int kValues = 4 * kRowTiles;
  __shared__ float sums[kSegments][kMatrices][kValues][kWarp];
  BlockWork work;
  if (!FindWork(p, kBlockCols, 8 * kRowTiles, &work)) return;
  const MatmulPart& part = *work.part;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int group = lane / 4, slot = lane % 4;

  WeightRow rows[kMatrices][2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t col = work.col_begin + group + 8 * half;
    rows[0][half] = RowAt(HeadWeight(p, part), part.dtype, part.stride, col, part.cols);
    if constexpr (kMatrices == 2) {
      rows[1][half] = RowAt(part.up, part.up_dtype, part.up_stride, col, part.cols);
    }
  }
  const float* x[kRowTiles];
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
    const int64_t row = 8 * r + group;
    x[r] = row < work.row_count ? XRow<float>(p, work.row_begin + row) : nullptr;
  }

  // 32 bits: 64 would be registers that the weights on their way need.
  constexpr int kStep = kFeatureStep;
  const int features = static_cast<int>(p.k), all = static_cast<int>(RoundUp(p.k, kFeatureStep));
  const int length = static_cast<int>(SegmentLength(p.k));
  const int begin = warp * length, end = min(begin + length, all);
  float acc[kMatrices][kRowTiles][4] = {};
  uint4 ahead[kDepth][kMatrices][2][2];
  const auto load = [&](int k, uint4(&to)[kMatrices][2][2]) {
#pragma unroll
    for (int m = 0; m < kMatrices; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          // Beyond the segment nothing is used.
          to[m][half][j] =
              LoadWeights<kFast>(rows[m][half], k + 32 * j + 8 * slot, min(features, end));
        }
      }
    }
  };
#pragma unroll
  for (int d = 0; d < kDepth; ++d) load(begin + d * kStep, ahead[d]);
  for (int step = begin; step < end; step += kDepth * kStep) {
#pragma unroll
    for (int d = 0; d < kDepth; ++d) {
      const int k = step + d * kStep;
      if (k >= end) break;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) {
          const uint4 xs = LoadX<kFast>(x[r], k + 32 * j + 8 * slot, features);
#pragma unroll
          for (int m = 0; m < kMatrices; ++m) {
            MmaFeatures32(ahead[d][m][0][j], ahead[d][m][1][j], xs, acc[m][r]);
          }
        }
      }
      load(k + kDepth * kStep, ahead[d]);
    }
  }

#pragma unroll
  for (int m = 0; m < kMatrices; ++m) {
#pragma unroll
    for (int i = 0; i < kValues; ++i) sums[warp][m][i][lane] = acc[m][i / 4][i % 4];
  }
  __syncthreads();
  const int segments = (all + length - 1) / length;
  for (int i = warp; i < kValues; i += kSegments) {
    const int64_t col = work.col_begin + group + (i % 4 >= 2 ? 8 : 0);
    const int64_t row = i / 4 * 8 + 2 * slot + i % 2;
    if (col >= part.cols || row >= work.row_count) continue;
    float total[kMatrices];
#pragma unroll
    for (int m = 0; m < kMatrices; ++m) {
      total[m] = sums[0][m][i][lane];
      for (int s = 1; s < segments; ++s) total[m] += sums[s][m][i][lane];
    }
    if constexpr (kKind == MatmulKind::kGated) {
      static_cast<float*>(p.inner)[(work.row_begin + row) * p.inner_stride + col] =
          Activate(p.activation, total[0]) * total[kMatrices - 1];
    } else {
      StoreProduct<kKind>(p, part, work.row_begin + row, col, total[0]);
    }
  }
}

template <MatmulKind kKind, bool kFast>
void Run(Launcher* launcher, const LaunchShape& shape, int row_tiles, const MatmulParams& params) {
  if (row_tiles == 1) {
    launcher->Launch<SkinnyKernel<kKind, 1, kFast>>(shape, params);
  } else {
    launcher->Launch<SkinnyKernel<kKind, 2, kFast>>(shape, params);
  }
}

template <MatmulKind kKind>
void Run(Launcher* launcher, const LaunchShape& shape, int row_tiles, bool fast,
         const MatmulParams& params) {
  if (fast) return Run<kKind, true>(launcher, shape, row_tiles, params);
  Run<kKind, false>(launcher, shape, row_tiles, params);
}

}  // namespace

void CudaMatmulSkinny(Launcher* launcher, const MatmulLaunch& launch, int rows_per_tile,
                      MatmulParams* params) {
  LaunchShape shape;
  shape.block = kSegments * kWarp;
  shape.grid_x = launch.tiles > 0 ? CeilDiv(launch.cols, kBlockCols) : 0;
  shape.grid_y = launch.tiles > 0 ? launch.tiles : CeilDiv(params->rows, rows_per_tile);
  shape.grid_z = launch.heads;
  for (int i = 0; i < params->part_count; ++i) {
    params->parts[i].block_begin = shape.grid_x;
    shape.grid_x += CeilDiv(params->parts[i].cols, kBlockCols);
  }
  const int row_tiles = rows_per_tile / 8;
  switch (launch.kind) {
    case MatmulKind::kPlain:
      return Run<MatmulKind::kPlain>(launcher, shape, row_tiles, launch.fast, *params);
    case MatmulKind::kGated:
      return Run<MatmulKind::kGated>(launcher, shape, row_tiles, launch.fast, *params);
    case MatmulKind::kDown:
      return Run<MatmulKind::kDown>(launcher, shape, row_tiles, launch.fast, *params);
  }
}

}  // namespace ccoe::kernels
