// SPDX-License-Identifier: Apache-2.0
// Heads of 256. A lane's share of the queries and of the sums is 192 registers here, so some others
// go to local memory, which BUILD allows here and bazel/cuda_library.bzl refuses elsewhere.
#include "kernels/cuda/attention_mma.cuh"

namespace ccoe::kernels {

void CudaAttentionMma256(Launcher* launcher, const LaunchShape& shape, int warps,
                         const AttentionParams& params) {
  attention_mma::LaunchMma<256>(launcher, shape, warps, params);
}

}  // namespace ccoe::kernels
