// SPDX-License-Identifier: Apache-2.0
// One chain of tensor-core steps over the features, by mma.sync and by Hopper's wgmma.
#ifndef CCOE_TOOLS_GPU_PROBE_WGMMA_CHAIN_H_
#define CCOE_TOOLS_GPU_PROBE_WGMMA_CHAIN_H_

#include <cstdint>

#include "kernels/cuda/launch.h"

namespace ccoe::probe {

constexpr int kChainRows = 64, kChainCols = 8;

// [64, 8] = a [64, k] * b [8, k]^T, bf16 and f32 sums, k a multiple of 16. One block.
struct ChainParams {
  const uint16_t *a, *b;
  float *by_mma, *by_wgmma;
  int64_t k;
};
void RunChains(kernels::Launcher* launcher, const ChainParams& params);

}  // namespace ccoe::probe

#endif  // CCOE_TOOLS_GPU_PROBE_WGMMA_CHAIN_H_
