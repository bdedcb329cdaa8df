// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/ptx.cuh"
#include "tests/kernels/cuda/emulation/test_kernels.h"

namespace ccoe::emulation {
namespace {

constexpr int kMost = 128;
constexpr unsigned kAll = 0xffffffffu;

__device__ const float* In(const TestParams& p) { return static_cast<const float*>(p.in); }
__device__ float* Out(const TestParams& p) { return static_cast<float*>(p.out); }

template <bool kBarrier>
__global__ void Rotate(const TestParams p) {
  CCOE_DYNAMIC_SHARED(float, shared);
  const int t = threadIdx.x;
  shared[t] = In(p)[t];
  if (kBarrier) __syncthreads();
  Out(p)[t] = shared[(t + p.shift) % p.n];
}

__global__ void RotateStatic(const TestParams p) {
  __shared__ float shared[kMost];
  const int t = threadIdx.x;
  shared[t] = In(p)[t];
  __syncthreads();
  Out(p)[t] = shared[(t + p.shift) % p.n];
}

template <bool kSync>
__global__ void RotateWarp(const TestParams p) {
  __shared__ float shared[32];
  const int t = threadIdx.x;
  shared[t] = In(p)[t];
  if (kSync) __syncwarp();
  Out(p)[t] = shared[(t + p.shift) % 32];
}

// kWait: groups that may be on their way; -1: no wait.
template <int kWait>
__global__ void RotateAsync(const TestParams p) {
  CCOE_DYNAMIC_SHARED(uint4, shared);
  const int t = threadIdx.x;
  kernels::CopyAsync(&shared[t], static_cast<const uint4*>(p.in) + t, true);
  kernels::CommitCopies();
  // The second group is not wanted.
  kernels::CopyAsync(&shared[p.n + t], p.in, false);
  kernels::CommitCopies();
  if constexpr (kWait >= 0) kernels::WaitForCopies<kWait>();
  __syncthreads();
  static_cast<uint4*>(p.out)[t] = shared[(t + p.shift) % p.n];
}

__global__ void ReadsUnwritten(const TestParams p) {
  CCOE_DYNAMIC_SHARED(float, shared);
  Out(p)[threadIdx.x] = shared[threadIdx.x];
  __syncthreads();
  shared[threadIdx.x] = 1.0f;  // which the next block must not find
}

__global__ void ReadsUnwrittenStatic(const TestParams p) {
  __shared__ float shared[kMost];
  Out(p)[threadIdx.x] = shared[threadIdx.x];
  __syncthreads();
  shared[threadIdx.x] = 1.0f;
}

__global__ void DivergentBarrier(const TestParams p) {
  if (threadIdx.x % 2 == 0) {
    __syncthreads();
    Out(p)[threadIdx.x] = 1.0f;
  } else {
    Out(p)[threadIdx.x] = 2.0f;
    __syncthreads();
  }
}

__global__ void MissingLane(const TestParams p) {
  if (threadIdx.x == 3) return;
  Out(p)[threadIdx.x] = __shfl_xor_sync(kAll, In(p)[threadIdx.x], 1);
}

__global__ void TwoPlaces(const TestParams p) {
  float x = In(p)[threadIdx.x];
  if (threadIdx.x % 2 == 0) {
    x = __shfl_xor_sync(kAll, x, 1);
  } else {
    x = __shfl_xor_sync(kAll, x, 1) + 1.0f;
  }
  Out(p)[threadIdx.x] = x;
}

__global__ void EndsEarly(const TestParams p) {
  if (threadIdx.x >= p.n / 2) return;
  __syncthreads();
  Out(p)[threadIdx.x] = In(p)[threadIdx.x];
}

__global__ void Reduces(const TestParams p) {
  float sum = In(p)[threadIdx.x];
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kAll, sum, step);
  const unsigned odd = __ballot_sync(kAll, threadIdx.x % 2 == 1);
  const int64_t lane = __shfl_sync(kAll, static_cast<int64_t>(threadIdx.x % 32), 5);
  const int above = __shfl_up_sync(kAll, static_cast<int>(threadIdx.x % 32), 2);
  const int below = __shfl_down_sync(kAll, static_cast<int>(threadIdx.x % 32), 2);
  const bool right = odd == 0xaaaaaaaau && lane == 5 &&
                     above == (threadIdx.x % 32 < 2 ? threadIdx.x % 32 : threadIdx.x % 32 - 2) &&
                     below == (threadIdx.x % 32 > 29 ? threadIdx.x % 32 : threadIdx.x % 32 + 2);
  Out(p)[threadIdx.x] = right ? sum : -1.0f;
}

__global__ void WritesBeyond(const TestParams p) { Out(p)[p.n + 4 + threadIdx.x] = 1.0f; }

__global__ void ReadsBefore(const TestParams p) {
  // The page before the block's.
  Out(p)[threadIdx.x] = In(p)[static_cast<int64_t>(threadIdx.x) - 1024];
}

__global__ void SharedBeyond(const TestParams p) {
  CCOE_DYNAMIC_SHARED(float, shared);
  shared[p.n + threadIdx.x] = 1.0f;
}

__global__ void IndexBeyond(const TestParams p) {
  __shared__ float shared[16];
  shared[threadIdx.x + p.shift] = 1.0f;
  Out(p)[threadIdx.x] = shared[0];
}

__global__ void Misaligned(const TestParams p) {
  const uint4 value = *reinterpret_cast<const uint4*>(In(p) + 1);
  Out(p)[threadIdx.x] = static_cast<float>(value.x);
}

__global__ void Counts(const TestParams p) {
  const int count = __syncthreads_count(In(p)[threadIdx.x] > 0.0f);
  if (threadIdx.x == 0) atomicAdd(&Out(p)[p.n], 1.0f);
  Out(p)[threadIdx.x] = static_cast<float>(count);
}

// One warp, by the layouts that ptx.cuh tells.
template <bool kF16>
__global__ void Mma(const TestParams p) {
  const int group = threadIdx.x / 4, pair = threadIdx.x % 4;
  const auto* a = static_cast<const uint32_t*>(p.in);   // [16, 8] pairs
  const auto* b = static_cast<const uint32_t*>(p.in2);  // [8, 8] pairs: columns of the right matrix
  const uint32_t a0 = a[group * 8 + pair], a1 = a[(group + 8) * 8 + pair];
  const uint32_t a2 = a[group * 8 + pair + 4], a3 = a[(group + 8) * 8 + pair + 4];
  const uint32_t b0 = b[group * 8 + pair], b1 = b[group * 8 + pair + 4];
  float c[4] = {1.0f, 1.0f, 1.0f, 1.0f};
  if (kF16) {
    kernels::MmaF16(a0, a1, a2, a3, b0, b1, c);
  } else {
    kernels::MmaBf16(a0, a1, a2, a3, b0, b1, c);
  }
  Out(p)[group * 8 + 2 * pair] = c[0];
  Out(p)[group * 8 + 2 * pair + 1] = c[1];
  Out(p)[(group + 8) * 8 + 2 * pair] = c[2];
  Out(p)[(group + 8) * 8 + 2 * pair + 1] = c[3];
}

// One warp; a matrix of 16 x 16 is four of 8 x 8.
__global__ void Transpose(const TestParams p) {
  CCOE_DYNAMIC_SHARED(uint4, shared);  // [16 rows][2 pieces]
  const int t = threadIdx.x;
  shared[t] = static_cast<const uint4*>(p.in)[t];
  __syncwarp();
  const int matrix = t / 8, row = matrix / 2 * 8 + t % 8;
  uint32_t to[4];
  kernels::LoadTransposed(&shared[row * 2 + matrix % 2], to);
  auto* out = static_cast<uint16_t*>(p.out);
  for (int m = 0; m < 4; ++m) {
    const int rows = m / 2 * 8 + 2 * (t % 4), col = m % 2 * 8 + t / 4;
    out[col * 16 + rows] = static_cast<uint16_t>(to[m]);
    out[col * 16 + rows + 1] = static_cast<uint16_t>(to[m] >> 16);
  }
}

}  // namespace

void LaunchTestKernel(kernels::Launcher* launcher, Kernel kernel, const kernels::LaunchShape& shape,
                      const TestParams& params) {
  using kernels::Launcher;
  using Launch = void (Launcher::*)(const kernels::LaunchShape&, const TestParams&);
  static constexpr Launch kLaunches[] = {&Launcher::Launch<Rotate<true>, TestParams>,
                                         &Launcher::Launch<Rotate<false>, TestParams>,
                                         &Launcher::Launch<RotateStatic, TestParams>,
                                         &Launcher::Launch<RotateWarp<true>, TestParams>,
                                         &Launcher::Launch<RotateWarp<false>, TestParams>,
                                         &Launcher::Launch<RotateAsync<1>, TestParams>,
                                         &Launcher::Launch<RotateAsync<-1>, TestParams>,
                                         &Launcher::Launch<RotateAsync<2>, TestParams>,
                                         &Launcher::Launch<ReadsUnwritten, TestParams>,
                                         &Launcher::Launch<ReadsUnwrittenStatic, TestParams>,
                                         &Launcher::Launch<DivergentBarrier, TestParams>,
                                         &Launcher::Launch<MissingLane, TestParams>,
                                         &Launcher::Launch<TwoPlaces, TestParams>,
                                         &Launcher::Launch<EndsEarly, TestParams>,
                                         &Launcher::Launch<Reduces, TestParams>,
                                         &Launcher::Launch<WritesBeyond, TestParams>,
                                         &Launcher::Launch<ReadsBefore, TestParams>,
                                         &Launcher::Launch<SharedBeyond, TestParams>,
                                         &Launcher::Launch<IndexBeyond, TestParams>,
                                         &Launcher::Launch<Misaligned, TestParams>,
                                         &Launcher::Launch<Counts, TestParams>,
                                         &Launcher::Launch<Mma<false>, TestParams>,
                                         &Launcher::Launch<Mma<true>, TestParams>,
                                         &Launcher::Launch<Transpose, TestParams>};
  (launcher->*kLaunches[static_cast<int>(kernel)])(shape, params);
}

}  // namespace ccoe::emulation
