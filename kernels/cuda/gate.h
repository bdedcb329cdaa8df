// SPDX-License-Identifier: Apache-2.0
// The gate of mixture-of-experts layers.
#ifndef CCOE_KERNELS_CUDA_GATE_H_
#define CCOE_KERNELS_CUDA_GATE_H_

#include "kernels/cuda/launch.h"
#include "kernels/cuda/params.h"
#include "kernels/moe.h"

namespace ccoe::kernels {

// TopKGateArgs with its host arrays in device memory; null where absent. One warp (a block) a row;
// shared memory: GateSharedBytes.
struct GateParams {
  View logits, bias;
  int64_t top_k, groups, top_groups;
  const int32_t *row_k, *row_steering;
  const float* steering;  // [n, experts], contiguous
  int32_t* experts;
  float* weights;
  float scale;
  RouterScore score;
  GroupScore group_score;
  bool renormalize;
};
void CudaTopKGate(Launcher* launcher, const GateParams& params);

// Scores, selection scores and a state an expert; a score and a state a group.
constexpr size_t GateSharedBytes(int64_t experts, int64_t groups) {
  return 12 * experts + 8 * groups;
}

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_GATE_H_
