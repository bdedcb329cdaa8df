// SPDX-License-Identifier: Apache-2.0
// Element-wise ops over rows. Blocks of 256 threads; block (x, y) does row x (strided by the grid)
// and the y-th 1,024 columns; no shared memory.
#ifndef CCOE_KERNELS_CUDA_ROWS_H_
#define CCOE_KERNELS_CUDA_ROWS_H_

#include <cstdint>

#include "kernels/activation.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/params.h"

namespace ccoe::kernels {

// to[to_rows[i]] = scale * from[from_rows[i]] for i < count, converting; null rows: i itself. With
// scale 1 and equal dtypes the bits are copied.
struct CopyRowsParams {
  View from, to;
  const int32_t *from_rows, *to_rows;  // device memory
  int64_t count;
  float scale;
};
void CudaCopyRows(Launcher* launcher, const CopyRowsParams& params);

enum class RowOp : uint8_t {
  kAdd,             // out += a
  kScale,           // out *= scalar
  kCap,             // out = cap * tanh(out * scalar / cap)
  kClamp,           // out within [-scalar, scalar]; what is not a number stays so
  kScaleBySigmoid,  // out *= sigmoid(a[row, 0])
  kGate,            // out = activation(a) * b; out may be a or b
};

// One f32 row op.
struct RowOpParams {
  View a, b, out;
  RowOp op;
  Activation activation;
  float scalar, cap;
};
void CudaRowOp(Launcher* launcher, const RowOpParams& params);

// out[r] = contributions[offsets[r]] + ... in order, from zero. All f32; offsets [rows + 1] in
// device memory.
struct CombineParams {
  View contributions, out;
  const int32_t* offsets;
};
void CudaCombine(Launcher* launcher, const CombineParams& params);

// out[r] = contributions[r * top_k] + ... in order, from zero: one for each of the row's first
// chosen[r * top_k ..] that are not negative. All f32.
struct CombineChosenParams {
  View contributions, out;
  const int32_t* chosen;  // [rows, top_k], -1 behind the last; device memory
  int64_t top_k;
};
void CudaCombineChosen(Launcher* launcher, const CombineChosenParams& params);

// x [rows, cols] f32 to bf16 [rows, padded], columns from cols on zero; padded is a multiple of 8.
// Then the same for `more` further heads, whose x lies x_step elements further each: [1 + more,
// rows, padded].
struct RoundRowsParams {
  View x;
  void* out;
  int64_t padded;
  int64_t more, x_step;
};
void CudaRoundRows(Launcher* launcher, const RoundRowsParams& params);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_ROWS_H_
