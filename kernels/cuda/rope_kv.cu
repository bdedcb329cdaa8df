// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/rope_kv.h"

namespace ccoe::kernels {
namespace {

constexpr int kThreads = 256;

__global__ void AnglesKernel(const RopeAnglesParams p) {
  for (int64_t row = blockIdx.x; row < p.cos.rows; row += gridDim.x) {
    float* cosines = static_cast<float*>(p.cos.data) + row * p.cos.stride;
    float* sines = static_cast<float*>(p.sin.data) + row * p.sin.stride;
    for (int64_t i = threadIdx.x; i < p.cos.cols; i += kThreads) {
      const double angle = static_cast<float>(p.positions[row]) * p.frequencies[i];
      cosines[i] = p.magnitude * static_cast<float>(cos(angle));
      sines[i] = p.magnitude * static_cast<float>(sin(angle));
    }
  }
}

struct Pair {
  int64_t low, high;  // columns of the two elements
  int64_t angle;
};

// The i-th rotated pair of a row of heads.
__device__ __forceinline__ Pair PairAt(const RopeParams& p, int64_t i) {
  const int64_t pairs = p.cos.cols;
  const int64_t head = i / pairs * p.head_dim;
  const int64_t angle = i % pairs;
  if (p.style == RopeStyle::kHalfSplit) return {head + angle, head + pairs + angle, angle};
  return {head + 2 * angle, head + 2 * angle + 1, angle};
}

__device__ __forceinline__ void Rotate(const float* cos, const float* sin, const Pair& at,
                                       float* x) {
  const float a = x[at.low], b = x[at.high];
  x[at.low] = a * cos[at.angle] - b * sin[at.angle];
  x[at.high] = b * cos[at.angle] + a * sin[at.angle];
}

__global__ void RopeKernel(const RopeParams p) {
  const int64_t pairs = p.cos.cols;
  const int64_t rest = p.head_dim - 2 * pairs;  // columns of a head that pass unchanged
  for (int64_t row = blockIdx.x; row < p.q.rows; row += gridDim.x) {
    float* q = static_cast<float*>(p.q.data) + row * p.q.stride;
    float* k = static_cast<float*>(p.k.data) + row * p.k.stride;
    const float* cos = static_cast<const float*>(p.cos.data) + row * p.cos.stride;
    const float* sin = static_cast<const float*>(p.sin.data) + row * p.sin.stride;
    const int64_t page = p.slots[row] / p.page_tokens;
    const int64_t in_page = p.slots[row] % p.page_tokens;
    // Where column `c` of all heads of this row lies in the cache.
    const auto place = [&](int64_t c) {
      const int64_t head = c / p.head_dim;
      return ((page * p.kv_heads + head) * p.page_tokens + in_page) * p.head_dim + c % p.head_dim;
    };
    if (pairs > 0) {
      for (int64_t i = threadIdx.x; i < p.q.cols / p.head_dim * pairs; i += kThreads) {
        Rotate(cos, sin, PairAt(p, i), q);
      }
      for (int64_t i = threadIdx.x; i < p.kv_heads * pairs; i += kThreads) {
        const Pair at = PairAt(p, i);
        Rotate(cos, sin, at, k);
        StoreElement(p.cache_k, p.cache_dtype, place(at.low), k[at.low]);
        StoreElement(p.cache_k, p.cache_dtype, place(at.high), k[at.high]);
      }
    }
    for (int64_t i = threadIdx.x; i < p.kv_heads * rest; i += kThreads) {
      const int64_t c = i / rest * p.head_dim + 2 * pairs + i % rest;
      StoreElement(p.cache_k, p.cache_dtype, place(c), k[c]);
    }
    if (p.v.data == nullptr) continue;
    const float* v = static_cast<const float*>(p.v.data) + row * p.v.stride;
    for (int64_t c = threadIdx.x; c < p.v.cols; c += kThreads) {
      StoreElement(p.cache_v, p.cache_dtype, place(c), v[c]);
    }
  }
}

}  // namespace

void CudaRopeAngles(Launcher* launcher, const RopeAnglesParams& params) {
  LaunchShape shape;
  shape.grid_x = std::min<int64_t>(params.cos.rows, 1 << 20);
  shape.block = kThreads;
  launcher->Launch<AnglesKernel>(shape, params);
}

void CudaRopeAndAppendKv(Launcher* launcher, const RopeParams& params) {
  LaunchShape shape;
  shape.grid_x = std::min<int64_t>(params.q.rows, 1 << 20);
  shape.block = kThreads;
  launcher->Launch<RopeKernel>(shape, params);
}

}  // namespace ccoe::kernels
