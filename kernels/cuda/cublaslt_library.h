// SPDX-License-Identifier: Apache-2.0
// cuBLASLt's library, which a machine may lack.
#ifndef CCOE_KERNELS_CUDA_CUBLASLT_LIBRARY_H_
#define CCOE_KERNELS_CUDA_CUBLASLT_LIBRARY_H_

#include "absl/status/status.h"

namespace ccoe::kernels {

// Opens it. FAILED_PRECONDITION says what is missing; its functions then return
// CUBLAS_STATUS_NOT_INITIALIZED.
absl::Status OpenCublasLt();

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_CUBLASLT_LIBRARY_H_
