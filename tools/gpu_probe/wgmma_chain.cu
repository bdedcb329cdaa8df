// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/ptx.cuh"
#include "tools/gpu_probe/wgmma_chain.h"

namespace ccoe::probe {
namespace {

using kernels::kWarp;
using kernels::MmaBf16;

constexpr int kThreads = 128;  // a warp group: warp w has rows 16 w and on
constexpr int kStep = 16;      // features

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
// Where matrix B of one step, 8 columns by 16 features, lies in shared memory: two pieces of 8
// columns by 16 bytes, without swizzling, 128 bytes apart.
__device__ __forceinline__ uint64_t DescribeStep(const uint4* step) {
  constexpr uint64_t kPieceBytes = 128;
  const uint64_t address = kernels::SharedAddress(step);
  return ((address & 0x3ffff) >> 4) | (kPieceBytes >> 4) << 16 | (kPieceBytes >> 4) << 32;
}

__device__ __forceinline__ void Wgmma(const uint32_t (&a)[4], uint64_t b, float (&c)[4]) {
  asm volatile(
      "{\n"
      ".reg .pred add;\n"
      "setp.ne.b32 add, 1, 0;\n"
      "wgmma.fence.sync.aligned;\n"
      "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0,%1,%2,%3}, {%4,%5,%6,%7}, %8, "
      "add, 1, 1, 0;\n"
      "wgmma.commit_group.sync.aligned;\n"
      "wgmma.wait_group.sync.aligned 0;\n"
      "}\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)
      : "memory");
}
#endif

__device__ __forceinline__ void Store(float* to, int row, int lane, const float (&c)[4]) {
  const int col = 2 * (lane % 4);
  to[row * kChainCols + col] = c[0];
  to[row * kChainCols + col + 1] = c[1];
  to[(row + 8) * kChainCols + col] = c[2];
  to[(row + 8) * kChainCols + col + 1] = c[3];
}

__global__ void __launch_bounds__(kThreads) ChainsKernel(const __grid_constant__ ChainParams p) {
  [[maybe_unused]] __shared__ alignas(128) uint4 step[2 * kChainCols];  // of wgmma alone
  const int lane = threadIdx.x % kWarp, row = threadIdx.x / kWarp * 16 + lane / 4;
  float by_mma[4] = {}, by_wgmma[4] = {};
  const auto pair = [&](const uint16_t* matrix, int64_t line, int64_t feature) {
    return *reinterpret_cast<const uint32_t*>(matrix + line * p.k + feature);
  };
  for (int64_t k = 0; k < p.k; k += kStep) {
    const int64_t feature = k + 2 * (lane % 4);
    const uint32_t a[4] = {pair(p.a, row, feature), pair(p.a, row + 8, feature),
                           pair(p.a, row, feature + 8), pair(p.a, row + 8, feature + 8)};
    MmaBf16(a[0], a[1], a[2], a[3], pair(p.b, lane / 4, feature), pair(p.b, lane / 4, feature + 8),
            by_mma);
    __syncthreads();  // the step before has been read
    if (threadIdx.x < 2 * kChainCols) {
      const int piece = threadIdx.x / kChainCols, col = threadIdx.x % kChainCols;
      step[threadIdx.x] = *reinterpret_cast<const uint4*>(p.b + col * p.k + k + 8 * piece);
    }
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    asm volatile("fence.proxy.async;\n" ::: "memory");  // wgmma reads by another way
    __syncthreads();
    Wgmma(a, DescribeStep(step), by_wgmma);
#else
    __syncthreads();
#endif
  }
  Store(p.by_mma, row, lane, by_mma);
  Store(p.by_wgmma, row, lane, by_wgmma);
}

}  // namespace

void RunChains(kernels::Launcher* launcher, const ChainParams& params) {
  kernels::LaunchShape shape;
  shape.block = kThreads;
  launcher->Launch<ChainsKernel>(shape, params);
}

}  // namespace ccoe::probe
