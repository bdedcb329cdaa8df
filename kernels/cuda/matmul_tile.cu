// SPDX-License-Identifier: Apache-2.0
// Many rows: tiles of 128 columns of weights by up to 128 rows of x, through four stages of shared
// memory filled by asynchronous copies.
#include "kernels/cuda/matmul_common.cuh"

namespace ccoe::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kCols = 128;     // rows of weights in a tile
constexpr int kFeatures = 32;  // of a stage
constexpr int kStages = 4;
constexpr int kChunks = 4;  // of 16 bytes in a row of a stage

// A stage is [kCols] rows of weights, then [kRows] rows of x, four chunks each: eight lanes that
// read 16 bytes each at (row l / 4, chunk l % 4) touch 128 bytes in one piece, so without bank
// conflicts.
template <int kRows>
struct Stage {
  uint4 weights[kCols * kChunks];
  uint4 x[kRows * kChunks];
};

// How 8 warps share a tile: kWarpsM along the weights, the rest along the rows of x.
template <int kRows>
struct Layout {
  static constexpr int kWarpsM = kRows == 128 ? 2 : 4;
  static constexpr int kWarpsN = kThreads / kWarp / kWarpsM;
  static constexpr int kM = kCols / kWarpsM / 16;  // steps of 16 weight rows of a warp
  static constexpr int kN = kRows / kWarpsN / 8;   // steps of 8 rows of x
};

// The column, and the matrix, of row `r` of a tile. Gated: of a warp's steps the first half are of
// the gate and the second half of `up`, for the same columns: a lane then holds both.
template <MatmulKind kKind, int kM>
__device__ __forceinline__ int64_t ColumnOf(int r, bool* up) {
  if constexpr (kKind != MatmulKind::kGated) {
    *up = false;
    return r;
  }
  const int warp = r / (16 * kM), step = r / 16 % kM;
  *up = step >= kM / 2;
  return warp * 8 * kM + step % (kM / 2) * 16 + r % 16;
}

template <MatmulKind kKind, int kRows, bool kFast>
class TileLoader {
  static constexpr int kWeightCopies = kCols * kChunks / kThreads;
  static constexpr int kXCopies = (kRows * kChunks + kThreads - 1) / kThreads;

 public:
  __device__ __forceinline__ TileLoader(const MatmulParams& p, const BlockWork& work) : p_(p) {
    const MatmulPart& part = *work.part;
#pragma unroll
    for (int i = 0; i < kWeightCopies; ++i) {
      bool up = false;
      const int r = (threadIdx.x + i * kThreads) / kChunks;
      const int64_t col = work.col_begin + ColumnOf<kKind, Layout<kRows>::kM>(r, &up);
      dtype_[i] = up ? part.up_dtype : part.dtype;
      const int64_t bytes = dtype_[i] == DType::kF32 ? 4 : 2;
      weight_[i] = up ? static_cast<const char*>(part.up) : HeadWeight(p, part);
      valid_[i] = col < part.cols;
      if (valid_[i]) weight_[i] += col * (up ? part.up_stride : part.stride) * bytes;
    }
#pragma unroll
    for (int i = 0; i < kXCopies; ++i) {
      const int r = (threadIdx.x + i * kThreads) / kChunks;
      x_[i] = r < work.row_count ? XRow<__nv_bfloat16>(p, work.row_begin + r) : nullptr;
    }
  }

  // Features [k, k + 32). x is padded with zeros; weights are read below p.k alone.
  __device__ __forceinline__ void Load(int64_t k, Stage<kRows>* stage) const {
#pragma unroll
    for (int i = 0; i < kWeightCopies; ++i) {
      const int at = threadIdx.x + i * kThreads;
      const int64_t from = k + at % kChunks * 8;
      const bool valid = valid_[i] && from < p_.k;
      if constexpr (kFast) {
        CopyAsync(&stage->weights[at], weight_[i] + (valid ? from * 2 : 0), valid);
      } else {
        stage->weights[at] =
            valid ? LoadEightSlow(weight_[i], dtype_[i], from, p_.k) : uint4{0, 0, 0, 0};
      }
    }
#pragma unroll
    for (int i = 0; i < kXCopies; ++i) {
      const int at = threadIdx.x + i * kThreads;
      if (at >= kRows * kChunks) break;
      const bool valid = x_[i] != nullptr;
      CopyAsync(&stage->x[at],
                valid ? x_[i] + k + at % kChunks * 8 : static_cast<const __nv_bfloat16*>(p_.x),
                valid);
    }
  }

 private:
  const MatmulParams& p_;
  const char* weight_[kWeightCopies];
  DType dtype_[kWeightCopies];
  bool valid_[kWeightCopies];
  const __nv_bfloat16* x_[kXCopies];
};

template <int kRows>
__device__ __forceinline__ void MultiplyStage(
    const Stage<kRows>& stage, int warp_m, int warp_n, int lane,
    float (&acc)[Layout<kRows>::kM][Layout<kRows>::kN][4]) {
  constexpr int kM = Layout<kRows>::kM, kN = Layout<kRows>::kN;
  uint4 x[kN];
#pragma unroll
  for (int n = 0; n < kN; ++n) {
    x[n] = stage.x[(warp_n * kN + n) * 8 * kChunks + lane];
  }
#pragma unroll
  for (int m = 0; m < kM; ++m) {
    const int at = (warp_m * kM + m) * 16 * kChunks + lane;
    const uint4 low = stage.weights[at], high = stage.weights[at + 8 * kChunks];
#pragma unroll
    for (int n = 0; n < kN; ++n) MmaFeatures32(low, high, x[n], acc[m][n]);
  }
}

// What a lane holds in value i of step (m, n): a column of the tile and a row of x.
template <MatmulKind kKind, int kRows, bool kSplit>
__device__ __forceinline__ void StoreTile(
    const MatmulParams& p, const BlockWork& work, int warp_m, int warp_n, int lane,
    const float (&total)[Layout<kRows>::kM][Layout<kRows>::kN][4]) {
  constexpr int kM = Layout<kRows>::kM, kN = Layout<kRows>::kN;
  constexpr int kSteps = kKind == MatmulKind::kGated ? kM / 2 : kM;
#pragma unroll
  for (int m = 0; m < kSteps; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        bool up = false;
        const int r = (warp_m * kM + m) * 16 + lane / 4 + (i >= 2 ? 8 : 0);
        const int64_t col = work.col_begin + ColumnOf<kKind, kM>(r, &up);
        const int64_t in_tile = (warp_n * kN + n) * 8 + lane % 4 * 2 + i % 2;
        if (col >= work.part->cols || in_tile >= work.row_count) continue;
        const int64_t row = work.row_begin + in_tile;
        if constexpr (kKind == MatmulKind::kGated) {
          static_cast<__nv_bfloat16*>(p.inner)[row * p.inner_stride + col] =
              FromFloat<__nv_bfloat16>(Activate(p.activation, total[m][n][i]) *
                                       total[m + kM / 2][n][i]);
        } else if constexpr (kSplit) {
          p.partials[(blockIdx.z * p.rows + row) * p.partial_cols + work.part->col_begin + col] =
              total[m][n][i];
        } else {
          StoreProduct<kKind>(p, *work.part, row, col, total[m][n][i]);
        }
      }
    }
  }
}

template <MatmulKind kKind, int kRows, bool kFast, bool kSplit>
__global__ void __launch_bounds__(kThreads, 1) TileKernel(const __grid_constant__ MatmulParams p) {
  using L = Layout<kRows>;
  CCOE_DYNAMIC_SHARED(uint4, shared);
  Stage<kRows>* stages = reinterpret_cast<Stage<kRows>*>(shared);
  BlockWork work;
  constexpr int64_t kBlockCols = kKind == MatmulKind::kGated ? kCols / 2 : kCols;
  if (!FindWork(p, kBlockCols, kRows, &work)) return;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int warp_m = warp % L::kWarpsM, warp_n = warp / L::kWarpsM;
  const TileLoader<kKind, kRows, kFast> loader(p, work);

  const int64_t length = SegmentLength(p.k), all = RoundUp(p.k, kFeatureStep);
  const int64_t begin = kSplit ? blockIdx.z * length : 0;
  const int64_t end = kSplit ? min(begin + length, all) : all;
  const int steps = static_cast<int>((end - begin) / kFeatures);
  const int segment_steps = static_cast<int>(length / kFeatures);
#pragma unroll
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < steps) loader.Load(begin + s * kFeatures, &stages[s]);
    CommitCopies();
  }
  float acc[L::kM][L::kN][4] = {}, total[L::kM][L::kN][4];
  bool first = true;
  for (int step = 0; step < steps; ++step) {
    WaitForCopies<kStages - 2>();  // this thread's copies of `step` have landed,
    __syncthreads();  // and everybody's; and all have read the stage that is filled next
    const int next = step + kStages - 1;
    if (next < steps) loader.Load(begin + next * kFeatures, &stages[next % kStages]);
    CommitCopies();  // an empty group keeps the count
    MultiplyStage<kRows>(stages[step % kStages], warp_m, warp_n, lane, acc);
    if ((step + 1) % segment_steps != 0 && step + 1 != steps) continue;
#pragma unroll
    for (int m = 0; m < L::kM; ++m) {
#pragma unroll
      for (int n = 0; n < L::kN; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          total[m][n][i] = first ? acc[m][n][i] : total[m][n][i] + acc[m][n][i];
          acc[m][n][i] = 0.0f;
        }
      }
    }
    first = false;
  }
  StoreTile<kKind, kRows, kSplit>(p, work, warp_m, warp_n, lane, total);
}

// Adds the segments of a split product in order: one thread an element.
__global__ void AddSegmentsKernel(const __grid_constant__ MatmulParams p) {
  const int64_t segments = CeilDiv(RoundUp(p.k, kFeatureStep), SegmentLength(p.k));
  const int64_t col = blockIdx.x * int64_t{kThreads} + threadIdx.x, row = blockIdx.y;
  if (col >= p.partial_cols) return;
  float total = p.partials[row * p.partial_cols + col];
  for (int64_t s = 1; s < segments; ++s) {
    total += p.partials[(s * p.rows + row) * p.partial_cols + col];
  }
  int part = 0;
  while (part + 1 < p.part_count && col >= p.parts[part + 1].col_begin) ++part;
  StoreProduct<MatmulKind::kPlain>(p, p.parts[part], row, col - p.parts[part].col_begin, total);
}

__global__ void AddBiasKernel(const __grid_constant__ MatmulParams p) {
  const MatmulPart& part = p.parts[0];
  const int64_t col = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (col >= part.cols) return;
  const float bias = LoadElement(part.bias, part.bias_dtype, col);
  for (int64_t row = blockIdx.y; row < p.rows; row += gridDim.y) {
    part.out[row * part.out_stride + col] += bias;
  }
}

struct TileLaunch {
  LaunchShape shape;
  bool fast, split;
};

template <MatmulKind kKind, int kRows, bool kFast>
void Run(Launcher* launcher, TileLaunch launch, const MatmulParams& params) {
  launch.shape.shared_bytes = kStages * sizeof(Stage<kRows>);
  if constexpr (kKind == MatmulKind::kPlain) {
    if (launch.split) {
      return launcher->Launch<TileKernel<kKind, kRows, kFast, true>>(launch.shape, params);
    }
  }
  launcher->Launch<TileKernel<kKind, kRows, kFast, false>>(launch.shape, params);
}

template <MatmulKind kKind, int kRows>
void Run(Launcher* launcher, const TileLaunch& launch, const MatmulParams& params) {
  if (launch.fast) return Run<kKind, kRows, true>(launcher, launch, params);
  Run<kKind, kRows, false>(launcher, launch, params);
}

template <MatmulKind kKind>
void Run(Launcher* launcher, const TileLaunch& launch, int rows_per_tile,
         const MatmulParams& params) {
  switch (rows_per_tile) {
    case 32:
      return Run<kKind, 32>(launcher, launch, params);
    case 64:
      return Run<kKind, 64>(launcher, launch, params);
    default:
      return Run<kKind, 128>(launcher, launch, params);
  }
}

}  // namespace

int TileRowsFor(int64_t rows) {
  for (int tile : kTileRows) {
    if (rows <= tile) return tile;
  }
  return 128;
}

void CudaMatmulTile(Launcher* launcher, const MatmulLaunch& launch, int rows_per_tile, bool split,
                    MatmulParams* params) {
  const int64_t block_cols = launch.kind == MatmulKind::kGated ? kCols / 2 : kCols;
  TileLaunch tile;
  tile.fast = launch.fast;
  tile.split = split;
  tile.shape.block = kThreads;
  tile.shape.grid_x = launch.tiles > 0 ? CeilDiv(launch.cols, block_cols) : 0;
  tile.shape.grid_y = launch.tiles > 0 ? launch.tiles : CeilDiv(params->rows, rows_per_tile);
  tile.shape.grid_z = launch.heads;
  for (int i = 0; i < params->part_count; ++i) {
    params->parts[i].block_begin = tile.shape.grid_x;
    tile.shape.grid_x += CeilDiv(params->parts[i].cols, block_cols);
  }
  if (split) {
    tile.shape.grid_z = CeilDiv(RoundUp(params->k, kFeatureStep), SegmentLength(params->k));
  }
  switch (launch.kind) {
    case MatmulKind::kPlain:
      Run<MatmulKind::kPlain>(launcher, tile, rows_per_tile, *params);
      break;
    case MatmulKind::kGated:
      return Run<MatmulKind::kGated>(launcher, tile, rows_per_tile, *params);
    case MatmulKind::kDown:
      return Run<MatmulKind::kDown>(launcher, tile, rows_per_tile, *params);
  }
  if (!split) return;
  LaunchShape add;
  add.grid_x = CeilDiv(params->partial_cols, kThreads);
  add.grid_y = params->rows;
  add.block = kThreads;
  launcher->Launch<AddSegmentsKernel>(add, *params);
}

void CudaAddBias(Launcher* launcher, const MatmulParams& params) {
  LaunchShape shape;
  shape.grid_x = CeilDiv(params.parts[0].cols, kThreads);
  shape.grid_y = params.rows < 4096 ? params.rows : 4096;
  shape.block = kThreads;
  launcher->Launch<AddBiasKernel>(shape, params);
}

}  // namespace ccoe::kernels
