// SPDX-License-Identifier: Apache-2.0
// Heads of 64 and 128; those of 256, which are compiled by themselves, are attention_mma_256.cu's.
#include "kernels/cuda/attention_mma.cuh"

namespace ccoe::kernels {

bool AttentionMmaTakes(DType dtype, int64_t head_dim) {
  return (dtype == DType::kF16 || dtype == DType::kBF16) &&
         (head_dim == 64 || head_dim == 128 || head_dim == 256);
}

void CudaAttentionMma(Launcher* launcher, const AttentionParams& params, int64_t items, int warps) {
  LaunchShape shape;
  shape.grid_x = items;
  shape.grid_y = params.kv_heads;
  switch (params.head_dim) {
    case 64:
      return attention_mma::LaunchMma<64>(launcher, shape, warps, params);
    case 128:
      return attention_mma::LaunchMma<128>(launcher, shape, warps, params);
    default:
      return CudaAttentionMma256(launcher, shape, warps, params);
  }
}

}  // namespace ccoe::kernels
