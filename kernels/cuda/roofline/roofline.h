// SPDX-License-Identifier: Apache-2.0
// What a GPU can do at best, as a yardstick for the kernels: measured in the same run as they are.
// No CUDA includes; builds without CUDA return UNIMPLEMENTED.
#ifndef CCOE_KERNELS_CUDA_ROOFLINE_ROOFLINE_H_
#define CCOE_KERNELS_CUDA_ROOFLINE_ROOFLINE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/dtype.h"

namespace ccoe::kernels {

// Bytes a second that a kernel reads from memory of CUDA device `device` when it does nothing else:
// the best of several passes over 2 GiB, or over what is free where that is less.
// RESOURCE_EXHAUSTED below 64 MiB.
absl::StatusOr<double> MeasureCudaReadBandwidth(int device);

struct CudaGemmShape {
  int64_t rows = 8192;
  int64_t in_features = 8192;
  int64_t out_features = 8192;
  DType dtype = DType::kBF16;  // of both operands: kBF16 or kF16; sums are f32
};

// FLOP a second of cuBLASLt's best algorithm (by its heuristics) for x[rows, in] * weight[out,
// in]^T, on random values: the best of several passes. INVALID_ARGUMENT for another dtype or sizes
// below 1.
absl::StatusOr<double> MeasureCudaGemm(int device, const CudaGemmShape& shape = {});

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_ROOFLINE_ROOFLINE_H_
