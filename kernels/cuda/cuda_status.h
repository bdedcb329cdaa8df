// SPDX-License-Identifier: Apache-2.0
// CUDA's errors as Status.
#ifndef CCOE_KERNELS_CUDA_CUDA_STATUS_H_
#define CCOE_KERNELS_CUDA_CUDA_STATUS_H_

#include <cuda_runtime_api.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace ccoe::kernels {

// OK, RESOURCE_EXHAUSTED for cudaErrorMemoryAllocation, else INTERNAL: "<what>: <name>: <text>".
absl::Status CudaStatus(cudaError_t error, absl::string_view what);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_CUDA_STATUS_H_
