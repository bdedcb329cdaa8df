// SPDX-License-Identifier: Apache-2.0
// Zhang and Sennrich 2019, arXiv 1910.07467.
#ifndef CCOE_KERNELS_CUDA_NORM_H_
#define CCOE_KERNELS_CUDA_NORM_H_

#include "kernels/cuda/launch.h"
#include "kernels/cuda/params.h"

namespace ccoe::kernels {

// See Ops::RmsNorm. One block a row; its threads (and so the order of the sum) depend on cols
// alone.
struct RmsNormParams {
  View x, weight, out;
  float eps;
  bool add;  // to what `out` holds: Ops::AddRmsNorm; then out is not x
};
void CudaRmsNorm(Launcher* launcher, const RmsNormParams& params);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_NORM_H_
