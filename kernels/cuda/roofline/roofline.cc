// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/roofline/roofline.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/cuda/cublaslt_library.h"
#include "kernels/cuda/roofline/fill.h"
#include "runtime/base/status_macros.h"

namespace ccoe::kernels {
namespace {

constexpr int64_t kReadBytes = int64_t{2} << 30;
constexpr int64_t kLeastReadBytes = int64_t{64} << 20;
constexpr size_t kGemmWorkspaceBytes = size_t{64} << 20;
constexpr int kPasses = 10;

absl::Status Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return absl::OkStatus();
  cudaGetLastError();  // one that does not stick is not the next call's
  const std::string text = absl::StrCat("roofline: ", what, ": ", cudaGetErrorString(error));
  return error == cudaErrorMemoryAllocation ? absl::ResourceExhaustedError(text)
                                            : absl::InternalError(text);
}

absl::Status Check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("roofline: ", what, ": cuBLASLt status ", static_cast<int>(status)));
}

// A stream, two events and device memory, freed together; waits for the stream first.
class Bench {
 public:
  Bench() = default;
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;
  ~Bench() {
    if (stream_ != nullptr) cudaStreamSynchronize(stream_);
    for (void* block : blocks_) cudaFree(block);
    if (begin_ != nullptr) cudaEventDestroy(begin_);
    if (end_ != nullptr) cudaEventDestroy(end_);
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  absl::Status Init(int device) {
    CCOE_RETURN_IF_ERROR(Check(cudaSetDevice(device), "cudaSetDevice"));
    CCOE_RETURN_IF_ERROR(
        Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate"));
    CCOE_RETURN_IF_ERROR(Check(cudaEventCreate(&begin_), "cudaEventCreate"));
    return Check(cudaEventCreate(&end_), "cudaEventCreate");
  }

  absl::StatusOr<void*> Allocate(size_t bytes) {
    void* block = nullptr;
    CCOE_RETURN_IF_ERROR(Check(cudaMalloc(&block, bytes), "cudaMalloc"));
    blocks_.push_back(block);
    return block;
  }

  // Seconds of the fastest of kPasses passes, after one that warms up.
  template <class Pass>
  absl::StatusOr<double> BestSeconds(Pass&& pass) {
    float best = 0.0f;
    for (int i = 0; i <= kPasses; ++i) {
      CCOE_RETURN_IF_ERROR(Check(cudaEventRecord(begin_, stream_), "cudaEventRecord"));
      CCOE_RETURN_IF_ERROR(pass(stream_));
      CCOE_RETURN_IF_ERROR(Check(cudaEventRecord(end_, stream_), "cudaEventRecord"));
      CCOE_RETURN_IF_ERROR(Check(cudaEventSynchronize(end_), "a pass"));
      float milliseconds = 0.0f;
      CCOE_RETURN_IF_ERROR(
          Check(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime"));
      if (i == 1 || milliseconds < best) best = milliseconds;
    }
    return std::max(best, 1e-6f) * 1e-3;
  }

  cudaStream_t stream() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
  std::vector<void*> blocks_;
};

// cuBLASLt's handle and descriptors of one product.
class LtProduct {
 public:
  LtProduct() = default;
  LtProduct(const LtProduct&) = delete;
  LtProduct& operator=(const LtProduct&) = delete;
  ~LtProduct() {
    for (cublasLtMatrixLayout_t layout : {weight_, x_, out_}) {
      if (layout != nullptr) cublasLtMatrixLayoutDestroy(layout);
    }
    if (product_ != nullptr) cublasLtMatmulDescDestroy(product_);
    if (handle_ != nullptr) cublasLtDestroy(handle_);
  }

  // Column-major to cuBLASLt: out^T[out, rows] = weight[out, in] (transposed as it lies) * x^T[in,
  // rows].
  absl::Status Init(const CudaGemmShape& shape) {
    const cudaDataType_t type = shape.dtype == DType::kBF16 ? CUDA_R_16BF : CUDA_R_16F;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    CCOE_RETURN_IF_ERROR_IN(OpenCublasLt(), "roofline");
    CCOE_RETURN_IF_ERROR(Check(cublasLtCreate(&handle_), "cublasLtCreate"));
    CCOE_RETURN_IF_ERROR(
        Check(cublasLtMatmulDescCreate(&product_, CUBLAS_COMPUTE_32F, CUDA_R_32F), "descriptor"));
    CCOE_RETURN_IF_ERROR(Check(cublasLtMatmulDescSetAttribute(product_, CUBLASLT_MATMUL_DESC_TRANSA,
                                                              &transposed, sizeof(transposed)),
                               "descriptor"));
    const auto in = static_cast<uint64_t>(shape.in_features);
    const auto out = static_cast<uint64_t>(shape.out_features);
    const auto rows = static_cast<uint64_t>(shape.rows);
    CCOE_RETURN_IF_ERROR(
        Check(cublasLtMatrixLayoutCreate(&weight_, type, in, out, shape.in_features), "layout"));
    CCOE_RETURN_IF_ERROR(
        Check(cublasLtMatrixLayoutCreate(&x_, type, in, rows, shape.in_features), "layout"));
    CCOE_RETURN_IF_ERROR(
        Check(cublasLtMatrixLayoutCreate(&out_, type, out, rows, shape.out_features), "layout"));
    return ChooseAlgorithm();
  }

  absl::Status Run(const void* weight, const void* x, void* out, void* workspace,
                   cudaStream_t stream) const {
    const float one = 1.0f, zero = 0.0f;
    return Check(cublasLtMatmul(handle_, product_, &one, weight, weight_, x, x_, &zero, out, out_,
                                out, out_, &found_.algo, workspace, kGemmWorkspaceBytes, stream),
                 "cublasLtMatmul");
  }

 private:
  absl::Status ChooseAlgorithm() {
    cublasLtMatmulPreference_t preference = nullptr;
    CCOE_RETURN_IF_ERROR(Check(cublasLtMatmulPreferenceCreate(&preference), "preference"));
    cublasStatus_t status =
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &kGemmWorkspaceBytes, sizeof(kGemmWorkspaceBytes));
    int count = 0;
    if (status == CUBLAS_STATUS_SUCCESS) {
      status = cublasLtMatmulAlgoGetHeuristic(handle_, product_, weight_, x_, out_, out_,
                                              preference, 1, &found_, &count);
    }
    cublasLtMatmulPreferenceDestroy(preference);
    CCOE_RETURN_IF_ERROR(Check(status, "heuristics"));
    if (count == 0) return absl::InternalError("roofline: cuBLASLt knows no algorithm");
    return absl::OkStatus();
  }

  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t product_ = nullptr;
  cublasLtMatrixLayout_t weight_ = nullptr, x_ = nullptr, out_ = nullptr;
  cublasLtMatmulHeuristicResult_t found_ = {};
};

// 16-bit random values.
absl::StatusOr<void*> RandomMatrix(Bench& bench, int64_t count, DType dtype) {
  CCOE_ASSIGN_OR_RETURN(void* data, bench.Allocate(static_cast<size_t>(count) * 2));
  LaunchFillHalves(static_cast<uint16_t*>(data), count, dtype == DType::kBF16, bench.stream());
  CCOE_RETURN_IF_ERROR(Check(cudaGetLastError(), "fill"));
  return data;
}

}  // namespace

absl::StatusOr<double> MeasureCudaReadBandwidth(int device) {
  Bench bench;
  CCOE_RETURN_IF_ERROR(bench.Init(device));
  size_t free = 0, total = 0;
  CCOE_RETURN_IF_ERROR(Check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo"));
  const int64_t bytes = std::min(kReadBytes, static_cast<int64_t>(free / 2)) / 16 * 16;
  if (bytes < kLeastReadBytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("roofline: ", free, " bytes of device memory are free, expected at least ",
                     2 * kLeastReadBytes));
  }
  CCOE_ASSIGN_OR_RETURN(void* data, bench.Allocate(static_cast<size_t>(bytes)));
  CCOE_ASSIGN_OR_RETURN(void* sums, bench.Allocate(sizeof(uint32_t)));
  CCOE_RETURN_IF_ERROR(Check(cudaMemsetAsync(data, 1, static_cast<size_t>(bytes), bench.stream()),
                             "cudaMemsetAsync"));
  CCOE_ASSIGN_OR_RETURN(const double seconds, bench.BestSeconds([&](cudaStream_t stream) {
    LaunchRead(data, bytes, /*never=*/0xffffffffu, static_cast<uint32_t*>(sums), stream);
    return Check(cudaGetLastError(), "read");
  }));
  return static_cast<double>(bytes) / seconds;
}

absl::StatusOr<double> MeasureCudaGemm(int device, const CudaGemmShape& shape) {
  if (shape.dtype != DType::kBF16 && shape.dtype != DType::kF16) {
    return absl::InvalidArgumentError("roofline: expected a GEMM of bf16 or f16");
  }
  if (shape.rows < 1 || shape.in_features < 1 || shape.out_features < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("roofline: expected a GEMM of positive sizes, found ", shape.rows, " x ",
                     shape.in_features, " x ", shape.out_features));
  }
  Bench bench;
  CCOE_RETURN_IF_ERROR(bench.Init(device));
  const int64_t in = shape.in_features, out = shape.out_features;
  CCOE_ASSIGN_OR_RETURN(void* weight, RandomMatrix(bench, out * in, shape.dtype));
  CCOE_ASSIGN_OR_RETURN(void* x, RandomMatrix(bench, shape.rows * in, shape.dtype));
  CCOE_ASSIGN_OR_RETURN(void* result, bench.Allocate(static_cast<size_t>(shape.rows * out) * 2));
  CCOE_ASSIGN_OR_RETURN(void* workspace, bench.Allocate(kGemmWorkspaceBytes));
  LtProduct product;
  CCOE_RETURN_IF_ERROR(product.Init(shape));
  CCOE_ASSIGN_OR_RETURN(const double seconds, bench.BestSeconds([&](cudaStream_t stream) {
    return product.Run(weight, x, result, workspace, stream);
  }));
  return 2.0 * static_cast<double>(shape.rows) * static_cast<double>(in) *
         static_cast<double>(out) / seconds;
}

}  // namespace ccoe::kernels
