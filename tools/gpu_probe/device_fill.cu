// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/device_math.cuh"
#include "tools/gpu_probe/device_fill.h"

namespace ccoe::probe {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 4096;

__global__ void FillKernel(const __grid_constant__ FillParams p) {
  const float scale = p.deviation * 1.7320508f / 32768.0f;
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < p.count; i += step) {
    uint32_t bits =
        static_cast<uint32_t>(i) * 2654435761u + p.seed * 40503u + static_cast<uint32_t>(i >> 32);
    bits ^= bits >> 15;
    bits *= 2246822519u;
    bits ^= bits >> 13;
    bits *= 3266489917u;
    bits ^= bits >> 16;
    const float centered = static_cast<float>(static_cast<int32_t>(bits & 0xffffu)) - 32767.5f;
    kernels::StoreElement(p.data, p.dtype, i, p.mean + scale * centered);
  }
}

}  // namespace

void FillOnDevice(kernels::Launcher* launcher, const FillParams& params) {
  kernels::LaunchShape shape;
  const int64_t blocks = kernels::CeilDiv(params.count, kThreads);
  shape.grid_x = blocks < kMostBlocks ? blocks : kMostBlocks;
  shape.block = kThreads;
  launcher->Launch<FillKernel>(shape, params);
}

}  // namespace ccoe::probe
