// SPDX-License-Identifier: Apache-2.0
// f32 products on the ordinary cores: every element is one chain of fused multiply-adds over the
// features in order, whatever the tile.
#include "kernels/cuda/matmul_common.cuh"

namespace ccoe::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kCols = 64;
constexpr int kFeatures = 32;  // of a stage

// A stage of `kLines` rows, transposed: element (line, k) at [k][line]. The odd stride keeps both
// the writes (neighbouring k) and the reads (neighbouring lines) of a warp on different banks.
template <int kLines>
struct Slab {
  float values[kFeatures][kLines + 1];
};

// A thread computes kColsEach columns (16 or 64 apart) by kRowsEach rows.
template <MatmulKind kKind, int kRows>
__global__ void __launch_bounds__(kThreads) F32Kernel(const __grid_constant__ MatmulParams p) {
  constexpr int kColsEach = kRows == kF32SmallRows ? 1 : 4;
  constexpr int kRowsEach = kRows * kCols / kThreads / kColsEach;
  constexpr int kColLanes = kCols / kColsEach;
  constexpr int kRowLanes = kThreads / kColLanes;
  constexpr int kWeightLoads = kCols * kFeatures / kThreads;
  constexpr int kXLoads = (kRows * kFeatures + kThreads - 1) / kThreads;
  __shared__ Slab<kCols> weights;
  __shared__ Slab<kRows> xs;
  BlockWork work;
  if (!FindWork(p, kCols, kRows, &work)) return;
  const MatmulPart& part = *work.part;
  const char* weight = HeadWeight(p, part);
  const int col_lane = threadIdx.x % kColLanes, row_lane = threadIdx.x / kColLanes;
  const int feature = threadIdx.x % kFeatures, line = threadIdx.x / kFeatures;
  constexpr int kLinesApart = kThreads / kFeatures;

  float next_weights[kWeightLoads], next_x[kXLoads];
  const auto fetch = [&](int64_t k) {
#pragma unroll
    for (int i = 0; i < kWeightLoads; ++i) {
      const int64_t col = work.col_begin + line + i * kLinesApart;
      next_weights[i] = col < part.cols && k + feature < p.k
                            ? LoadElement(weight, part.dtype, col * part.stride + k + feature)
                            : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < kXLoads; ++i) {
      const int64_t row = line + i * kLinesApart;
      next_x[i] = row < kRows && row < work.row_count && k + feature < p.k
                      ? XRow<float>(p, work.row_begin + row)[k + feature]
                      : 0.0f;
    }
  };

  float acc[kColsEach][kRowsEach] = {};
  fetch(0);
  for (int64_t k = 0; k < p.k; k += kFeatures) {
    __syncthreads();  // the stage before has been read
#pragma unroll
    for (int i = 0; i < kWeightLoads; ++i) {
      weights.values[feature][line + i * kLinesApart] = next_weights[i];
    }
#pragma unroll
    for (int i = 0; i < kXLoads; ++i) {
      const int row = line + i * kLinesApart;
      if (row < kRows) xs.values[feature][row] = next_x[i];
    }
    __syncthreads();
    if (k + kFeatures < p.k) fetch(k + kFeatures);
#pragma unroll 8
    for (int f = 0; f < kFeatures; ++f) {
      float w[kColsEach], x[kRowsEach];
#pragma unroll
      for (int c = 0; c < kColsEach; ++c) w[c] = weights.values[f][col_lane + c * kColLanes];
#pragma unroll
      for (int r = 0; r < kRowsEach; ++r) x[r] = xs.values[f][row_lane + r * kRowLanes];
#pragma unroll
      for (int c = 0; c < kColsEach; ++c) {
#pragma unroll
        for (int r = 0; r < kRowsEach; ++r) acc[c][r] = fmaf(x[r], w[c], acc[c][r]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRowsEach; ++r) {
    const int64_t in_tile = row_lane + r * kRowLanes;
#pragma unroll
    for (int c = 0; c < kColsEach; ++c) {
      const int64_t col = work.col_begin + col_lane + c * kColLanes;
      if (col >= part.cols || in_tile >= work.row_count) continue;
      StoreProduct<kKind>(p, part, work.row_begin + in_tile, col, acc[c][r]);
    }
  }
}

template <MatmulKind kKind>
void Run(Launcher* launcher, const LaunchShape& shape, int rows_per_tile,
         const MatmulParams& params) {
  if (rows_per_tile == kF32SmallRows) {
    return launcher->Launch<F32Kernel<kKind, kF32SmallRows>>(shape, params);
  }
  launcher->Launch<F32Kernel<kKind, kF32LargeRows>>(shape, params);
}

}  // namespace

void CudaMatmulF32(Launcher* launcher, const MatmulLaunch& launch, int rows_per_tile,
                   MatmulParams* params) {
  LaunchShape shape;
  shape.block = kThreads;
  shape.grid_x = launch.tiles > 0 ? CeilDiv(launch.cols, kCols) : 0;
  shape.grid_y = launch.tiles > 0 ? launch.tiles : CeilDiv(params->rows, rows_per_tile);
  shape.grid_z = launch.heads;
  for (int i = 0; i < params->part_count; ++i) {
    params->parts[i].block_begin = shape.grid_x;
    shape.grid_x += CeilDiv(params->parts[i].cols, kCols);
  }
  if (launch.kind == MatmulKind::kDown) {
    return Run<MatmulKind::kDown>(launcher, shape, rows_per_tile, *params);
  }
  Run<MatmulKind::kPlain>(launcher, shape, rows_per_tile, *params);
}

}  // namespace ccoe::kernels
