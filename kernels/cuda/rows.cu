// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/rows.h"

namespace ccoe::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kPerThread = 4;
constexpr int64_t kBlockCols = kThreads * kPerThread;
constexpr int64_t kMaxGridRows = 1 << 20;  // blocks go on to further rows

LaunchShape RowShape(int64_t rows, int64_t cols) {
  LaunchShape shape;
  shape.grid_x = std::min(rows, kMaxGridRows);
  shape.grid_y = CeilDiv(cols, kBlockCols);
  shape.block = kThreads;
  return shape;
}

// Calls f(column) for this thread's columns of a block: neighbouring threads have neighbouring
// columns.
template <class F>
__device__ __forceinline__ void ForColumns(int64_t cols, const F& f) {
  const int64_t begin = blockIdx.y * kBlockCols;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int64_t c = begin + i * kThreads + threadIdx.x;
    if (c < cols) f(c);
  }
}

__device__ __forceinline__ float* F32(const View& view, int64_t row) {
  return static_cast<float*>(view.data) + row * view.stride;
}

__global__ void CopyRowsKernel(const CopyRowsParams p) {
  for (int64_t i = blockIdx.x; i < p.count; i += gridDim.x) {
    const int64_t from = (p.from_rows == nullptr ? i : p.from_rows[i]) * p.from.stride;
    const int64_t to = (p.to_rows == nullptr ? i : p.to_rows[i]) * p.to.stride;
    ForColumns(p.to.cols, [&](int64_t c) {
      const float value = LoadElement(p.from.data, p.from.dtype, from + c);
      StoreElement(p.to.data, p.to.dtype, to + c, p.scale == 1.0f ? value : value * p.scale);
    });
  }
}

// Elements of `Word`, whatever they mean: no bit changes.
template <class Word>
__global__ void CopyBitsKernel(const CopyRowsParams p) {
  for (int64_t i = blockIdx.x; i < p.count; i += gridDim.x) {
    const Word* from = static_cast<const Word*>(p.from.data) +
                       (p.from_rows == nullptr ? i : p.from_rows[i]) * p.from.stride;
    Word* to =
        static_cast<Word*>(p.to.data) + (p.to_rows == nullptr ? i : p.to_rows[i]) * p.to.stride;
    ForColumns(p.to.cols, [&](int64_t c) { to[c] = from[c]; });
  }
}

__device__ __forceinline__ float ApplyRowOp(const RowOpParams& p, int64_t row, int64_t c,
                                            float out) {
  switch (p.op) {
    case RowOp::kAdd:
      return out + F32(p.a, row)[c];
    case RowOp::kScale:
      return out * p.scalar;
    case RowOp::kCap:
      return p.cap * tanhf(out * p.scalar * (1.0f / p.cap));
    case RowOp::kClamp: {
      const float above = out < -p.scalar ? -p.scalar : out;
      return above > p.scalar ? p.scalar : above;
    }
    case RowOp::kScaleBySigmoid:
      return out * (1.0f / (1.0f + expf(-F32(p.a, row)[0])));
    default:
      return Activate(p.activation, F32(p.a, row)[c]) * F32(p.b, row)[c];
  }
}

__global__ void RowOpKernel(const RowOpParams p) {
  const bool reads_out = p.op != RowOp::kGate;
  for (int64_t row = blockIdx.x; row < p.out.rows; row += gridDim.x) {
    float* out = F32(p.out, row);
    ForColumns(p.out.cols,
               [&](int64_t c) { out[c] = ApplyRowOp(p, row, c, reads_out ? out[c] : 0.0f); });
  }
}

__global__ void CombineKernel(const CombineParams p) {
  for (int64_t row = blockIdx.x; row < p.out.rows; row += gridDim.x) {
    const int32_t begin = p.offsets[row], end = p.offsets[row + 1];
    float* out = F32(p.out, row);
    ForColumns(p.out.cols, [&](int64_t c) {
      float sum = 0.0f;
      for (int32_t pair = begin; pair < end; ++pair) sum += F32(p.contributions, pair)[c];
      out[c] = sum;
    });
  }
}

__global__ void CombineChosenKernel(const CombineChosenParams p) {
  for (int64_t row = blockIdx.x; row < p.out.rows; row += gridDim.x) {
    const int64_t begin = row * p.top_k;
    int64_t end = begin;
    while (end < begin + p.top_k && p.chosen[end] >= 0) ++end;
    float* out = F32(p.out, row);
    ForColumns(p.out.cols, [&](int64_t c) {
      float sum = 0.0f;
      for (int64_t pair = begin; pair < end; ++pair) sum += F32(p.contributions, pair)[c];
      out[c] = sum;
    });
  }
}

__global__ void RoundRowsKernel(const RoundRowsParams p) {
  for (int64_t row = blockIdx.x; row < p.x.rows; row += gridDim.x) {
    const float* x = F32(p.x, row) + blockIdx.z * p.x_step;
    __nv_bfloat16* out =
        static_cast<__nv_bfloat16*>(p.out) + (blockIdx.z * p.x.rows + row) * p.padded;
    ForColumns(p.padded,
               [&](int64_t c) { out[c] = FromFloat<__nv_bfloat16>(c < p.x.cols ? x[c] : 0.0f); });
  }
}

}  // namespace

void CudaCopyRows(Launcher* launcher, const CopyRowsParams& params) {
  const LaunchShape shape = RowShape(params.count, params.to.cols);
  if (params.from.dtype != params.to.dtype || params.scale != 1.0f) {
    return launcher->Launch<CopyRowsKernel>(shape, params);
  }
  switch (DTypeBytes(params.to.dtype)) {
    case 1:
      return launcher->Launch<CopyBitsKernel<uint8_t>>(shape, params);
    case 2:
      return launcher->Launch<CopyBitsKernel<uint16_t>>(shape, params);
    case 4:
      return launcher->Launch<CopyBitsKernel<uint32_t>>(shape, params);
    default:
      return launcher->Launch<CopyBitsKernel<uint64_t>>(shape, params);
  }
}

void CudaRowOp(Launcher* launcher, const RowOpParams& params) {
  launcher->Launch<RowOpKernel>(RowShape(params.out.rows, params.out.cols), params);
}

void CudaCombine(Launcher* launcher, const CombineParams& params) {
  launcher->Launch<CombineKernel>(RowShape(params.out.rows, params.out.cols), params);
}

void CudaCombineChosen(Launcher* launcher, const CombineChosenParams& params) {
  launcher->Launch<CombineChosenKernel>(RowShape(params.out.rows, params.out.cols), params);
}

void CudaRoundRows(Launcher* launcher, const RoundRowsParams& params) {
  LaunchShape shape = RowShape(params.x.rows, params.padded);
  shape.grid_z = 1 + params.more;
  launcher->Launch<RoundRowsKernel>(shape, params);
}

}  // namespace ccoe::kernels
