// SPDX-License-Identifier: Apache-2.0
// Su et al. 2021, arXiv 2104.09864.
#ifndef CCOE_KERNELS_CUDA_ROPE_KV_H_
#define CCOE_KERNELS_CUDA_ROPE_KV_H_

#include "kernels/attention.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/params.h"

namespace ccoe::kernels {

// RopeAnglesArgs, with its arrays in device memory. One block of 256 threads a row (rows beyond
// 2^20 by the same blocks).
struct RopeAnglesParams {
  View cos, sin;
  const int64_t* positions;
  const float* frequencies;
  float magnitude;
};
void CudaRopeAngles(Launcher* launcher, const RopeAnglesParams& params);

// RopeAndAppendKvArgs, with slots [rows] in device memory. One block of 256 threads a row (rows
// beyond 2^20 by the same blocks); a rotated key is written to `k` and to the cache by the thread
// that rotated it.
struct RopeParams {
  View q, k, v, cos, sin;  // v.data null where the cache keeps keys alone
  const int64_t* slots;
  void *cache_k, *cache_v;
  DType cache_dtype;
  int64_t page_tokens, kv_heads, head_dim;
  RopeStyle style;
};
void CudaRopeAndAppendKv(Launcher* launcher, const RopeParams& params);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_ROPE_KV_H_
