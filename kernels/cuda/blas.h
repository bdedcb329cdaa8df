// SPDX-License-Identifier: Apache-2.0
// cuBLASLt for large products that need not be batch-invariant.
#ifndef CCOE_KERNELS_CUDA_BLAS_H_
#define CCOE_KERNELS_CUDA_BLAS_H_

#include <cublasLt.h>

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/stream.h"
#include "kernels/dtype.h"

namespace ccoe::kernels {

// out [rows, cols] f32 = x [rows, k] * weight [cols, k]^T (+ out). x and weight are both `dtype`:
// f32 (computed in f32, no TF32) or bf16. Strides in elements; all in device memory.
struct BlasProduct {
  const void* x = nullptr;
  const void* weight = nullptr;
  float* out = nullptr;
  int64_t rows = 0, cols = 0, k = 0;
  int64_t x_stride = 0, weight_stride = 0, out_stride = 0;
  DType dtype = DType::kBF16;
  bool accumulate = false;
};

// Not thread-safe, like the stream it works on.
class Blas {
 public:
  // FAILED_PRECONDITION where the library is missing.
  static absl::StatusOr<std::unique_ptr<Blas>> Create();
  ~Blas();

  // Device memory that Multiply may use.
  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;

  // False where cuBLASLt has no algorithm for the shape: nothing was done. Errors stick in
  // `stream`. The algorithm is chosen when a shape is first seen and kept.
  bool Multiply(const BlasProduct& product, void* workspace, Stream* stream);

 private:
  using Shape = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, DType, unsigned>;
  struct Plan {
    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatrixLayout_t weight = nullptr, x = nullptr, out = nullptr;
    cublasLtMatmulAlgo_t algorithm;
    bool usable = false;
  };

  Blas() = default;
  Plan MakePlan(const BlasProduct& product, unsigned alignment);
  static void FreePlan(Plan* plan);

  static constexpr size_t kMaxPlans = 4096;

  cublasLtHandle_t handle_ = nullptr;
  std::map<Shape, Plan> plans_;
};

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_BLAS_H_
