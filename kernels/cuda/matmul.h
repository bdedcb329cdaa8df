// SPDX-License-Identifier: Apache-2.0
// The matrix products behind Linear and GroupedFfn: out = x * weight^T for rows of x against one
// matrix, or rows sorted by group against one matrix a group.
//
// Why a row gives the same bits in any batch. bf16: the features are cut into at most four segments
// of SegmentLength(k); within one, every element is accumulated by the same chain of m16n8k16
// tensor-core steps (weights as the 16 rows, x as the 8 columns, features in the same slots);
// segments are added in order. Both kernels (skinny and tile) do this, however they share the work.
// f32: one chain of fused multiply-adds over the features in order.
#ifndef CCOE_KERNELS_CUDA_MATMUL_H_
#define CCOE_KERNELS_CUDA_MATMUL_H_

#include <cstdint>

#include "kernels/activation.h"
#include "kernels/cuda/launch.h"
#include "kernels/dtype.h"

namespace ccoe::kernels {

constexpr int kMaxParts = 4;
constexpr int kSegments = 4;
constexpr int64_t kFeatureStep = 64;

constexpr int64_t SegmentLength(int64_t k) { return RoundUp(CeilDiv(k, kSegments), kFeatureStep); }

enum class MatmulKind : uint8_t {
  kPlain,  // out[r] = product (+ bias) (+ out[r])
  kGated,  // inner[r] = activation(product with weight) * (product with up)
  kDown,   // out[out_rows[r]] = weights[r] * product
};

// One matrix and where its products go.
struct MatmulPart {
  const void *weight, *up;  // [cols, k]; up for kGated
  int64_t stride, up_stride;
  int64_t cols;
  const void* bias;  // [cols] or null
  float* out;        // kPlain; null: that of MatmulParams
  int64_t out_stride;
  int64_t block_begin;  // without tiles: this part's first block in x
  int64_t col_begin;    // in partials
  DType dtype, up_dtype, bias_dtype;
  bool accumulate;
};

// Rows that one block in y computes.
struct MatmulTile {
  int32_t group, row_begin, row_count;
};

struct MatmulParams {
  const void* x;  // f32, except for the tile kernel: bf16 with columns zero up to a multiple of 64
  int64_t x_stride;
  const int32_t* x_rows;  // row r reads x at x_rows[r]; null: r
  int64_t rows, k;
  // Without tiles: all rows against each of parts[0 .. part_count).
  MatmulPart parts[kMaxParts];
  int32_t part_count;
  // With tiles (device memory): tile t's rows against groups[tile.group]; *tile_count <= gridDim.y.
  const MatmulPart* groups;
  const MatmulTile* tiles;
  const int32_t* tile_count;
  // kGated: [rows, inner_stride], f32 or (tile kernel) bf16.
  void* inner;
  int64_t inner_stride;
  // kDown, and kPlain where a part has none of its own.
  float* out;
  int64_t out_stride;
  const int32_t* out_rows;
  const float* weights;
  // A split tile kernel: [segments, rows, partial_cols] f32.
  float* partials;
  int64_t partial_cols;
  // With heads: how much further those of block (x, y, h) lie than those of (x, y, h - 1).
  int64_t head_x, head_weight, head_out;  // elements of x, bytes of weights, elements of part.out
  Activation activation;
};

// Where tiles come from and how the kernel may read.
struct MatmulLaunch {
  MatmulKind kind = MatmulKind::kPlain;
  // All weights bf16, 16-byte aligned rows, k % 8 == 0 (and x likewise for the skinny kernel).
  bool fast = false;
  int64_t cols = 0;   // with tiles: of every group
  int64_t tiles = 0;  // blocks in y; 0: from params.rows
  int64_t heads = 1;  // blocks in z, without a split
};

// Row counts for one block in y.
constexpr int kSkinnyRows = 16;  // 8 or 16
constexpr int kTileRows[] = {32, 64, 128};
constexpr int kF32SmallRows = 4, kF32LargeRows = 64;

// Rows a block of the tile kernel takes for at most `rows` rows a group.
int TileRowsFor(int64_t rows);

// Few rows, f32 x. 128 threads: one warp a segment, 16 columns a block, static shared memory.
// rows_per_tile: 8 or 16.
void CudaMatmulSkinny(Launcher* launcher, const MatmulLaunch& launch, int rows_per_tile,
                      MatmulParams* params);

// bf16 x. 256 threads; 128 columns (kGated: 64 of each matrix) by `rows_per_tile` rows a block;
// four stages of shared memory of (128 + rows_per_tile) * 64 bytes. `split` (kPlain without tiles):
// a segment a block in z, then a kernel that adds them.
void CudaMatmulTile(Launcher* launcher, const MatmulLaunch& launch, int rows_per_tile, bool split,
                    MatmulParams* params);

// f32 x, weights of any float dtype. 256 threads, 64 columns by 4 or 64 rows a block. kPlain and
// kDown.
void CudaMatmulF32(Launcher* launcher, const MatmulLaunch& launch, int rows_per_tile,
                   MatmulParams* params);

// out[r] += bias, for all rows: what cuBLASLt leaves to do.
void CudaAddBias(Launcher* launcher, const MatmulParams& params);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_MATMUL_H_
