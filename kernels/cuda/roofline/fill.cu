// SPDX-License-Identifier: Apache-2.0
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/roofline/fill.h"

namespace ccoe::kernels {
namespace {

constexpr int kThreads = 512;
constexpr int kLoads = 4;  // in flight a thread

// Each block reads tiles of kThreads * kLoads vectors, a grid's width apart.
__global__ void ReadKernel(const uint4* data, int64_t vectors, uint32_t never, uint32_t* sums) {
  constexpr int64_t kTile = int64_t{kThreads} * kLoads;
  uint32_t sum = 0;
  for (int64_t tile = blockIdx.x * kTile; tile < vectors; tile += gridDim.x * kTile) {
    uint4 loaded[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int64_t at = tile + i * kThreads + threadIdx.x;
      loaded[i] = at < vectors ? __ldcs(data + at) : uint4{0, 0, 0, 0};
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      sum += loaded[i].x + loaded[i].y + loaded[i].z + loaded[i].w;
    }
  }
  if (sum == never) atomicAdd(sums, 1u);
}

__global__ void FillHalvesKernel(uint16_t* data, int64_t count, bool bf16) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    uint32_t random = static_cast<uint32_t>(i) * 2654435761u;
    random ^= random >> 15;
    random *= 2246822519u;
    random ^= random >> 13;
    const float value = static_cast<float>(random & 0xffff) / 32768.0f - 1.0f;
    data[i] = bf16 ? __bfloat16_as_ushort(__float2bfloat16(value))
                   : __half_as_ushort(__float2half(value));
  }
}

}  // namespace

void LaunchRead(const void* data, int64_t bytes, uint32_t never, uint32_t* sums,
                cudaStream_t stream) {
  const int64_t vectors = bytes / 16;
  const int64_t tile = int64_t{kThreads} * kLoads;
  const int64_t tiles = (vectors + tile - 1) / tile;
  // Enough blocks for every multiprocessor of any GPU, several rounds each.
  const unsigned blocks = static_cast<unsigned>(tiles < 4096 ? tiles : 4096);
  ReadKernel<<<blocks, kThreads, 0, stream>>>(static_cast<const uint4*>(data), vectors, never,
                                              sums);
}

void LaunchFillHalves(uint16_t* data, int64_t count, bool bf16, cudaStream_t stream) {
  FillHalvesKernel<<<1024, 256, 0, stream>>>(data, count, bf16);
}

}  // namespace ccoe::kernels
