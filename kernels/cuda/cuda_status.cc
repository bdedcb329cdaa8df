// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_status.h"

#include "absl/strings/str_cat.h"

namespace ccoe::kernels {

absl::Status CudaStatus(cudaError_t error, absl::string_view what) {
  if (error == cudaSuccess) return absl::OkStatus();
  // An error that does not stick to the context would otherwise be found by the next innocent call.
  cudaGetLastError();
  const std::string text =
      absl::StrCat(what, ": ", cudaGetErrorName(error), ": ", cudaGetErrorString(error));
  if (error == cudaErrorMemoryAllocation) return absl::ResourceExhaustedError(text);
  return absl::InternalError(text);
}

}  // namespace ccoe::kernels
