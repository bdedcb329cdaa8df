// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/norm.h"

namespace ccoe::kernels {
namespace {

constexpr int kMaxThreads = 512;

// Columns are summed by thread (column modulo blockDim.x, rising), then by the tree of a warp, then
// over warps in order.
__global__ void RmsNormKernel(const RmsNormParams p) {
  __shared__ float sums[kMaxThreads / kWarp];
  const float* x = static_cast<const float*>(p.x.data) + blockIdx.x * p.x.stride;
  float* out = static_cast<float*>(p.out.data) + blockIdx.x * p.out.stride;
  float sum = 0.0f;
  for (int64_t c = threadIdx.x; c < p.x.cols; c += blockDim.x) sum = fmaf(x[c], x[c], sum);
  sum = WarpSum(sum);
  if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = sum;
  __syncthreads();
  float total = 0.0f;
  for (int w = 0; w < blockDim.x / kWarp; ++w) total += sums[w];
  const float inverse = 1.0f / sqrtf(total / static_cast<float>(p.x.cols) + p.eps);
  // In place: a column is read and written by one thread, and all sums were taken before.
  for (int64_t c = threadIdx.x; c < p.x.cols; c += blockDim.x) {
    const float normed = x[c] * inverse * LoadElement(p.weight.data, p.weight.dtype, c);
    out[c] = p.add ? out[c] + normed : normed;
  }
}

}  // namespace

void CudaRmsNorm(Launcher* launcher, const RmsNormParams& params) {
  LaunchShape shape;
  shape.grid_x = params.x.rows;
  shape.block = params.x.cols >= 2048 ? kMaxThreads : 128;
  launcher->Launch<RmsNormKernel>(shape, params);
}

}  // namespace ccoe::kernels
