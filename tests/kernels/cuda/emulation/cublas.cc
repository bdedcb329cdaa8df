// SPDX-License-Identifier: Apache-2.0
// cuBLASLt as one plain product. Matrices are column-major; the first is transposed (CUBLAS_OP_T),
// as kernels/cuda/blas.cc asks for: d [m, n] = alpha * a^T * b + beta * c with a [k, m], b [k, n].
#include <cublasLt.h>

#include <cstring>

#include "kernels/cpu/half.h"
#include "kernels/cuda/cublaslt_library.h"
#include "tests/kernels/cuda/emulation/stream_work.h"

struct cublasLtContext {};
struct cublasLtMatmulDescOpaque_t {
  cublasOperation_t a = CUBLAS_OP_N;
};
struct cublasLtMatrixLayoutOpaque_t {
  cudaDataType_t type;
  uint64_t rows, cols;
  int64_t stride;
};
struct cublasLtMatmulPreferenceOpaque_t {};

namespace {

using Layout = cublasLtMatrixLayoutOpaque_t;

float Element(const void* data, const Layout& layout, uint64_t row, uint64_t col) {
  const uint64_t at = col * layout.stride + row;
  if (layout.type == CUDA_R_32F) return static_cast<const float*>(data)[at];
  return ccoe::kernels::ToF32(static_cast<const ccoe::kernels::BF16*>(data)[at]);
}

bool Fits(cublasLtMatmulDesc_t operation, const Layout& a, const Layout& b, const Layout& d) {
  return operation->a == CUBLAS_OP_T && a.rows == b.rows && a.cols == d.rows && b.cols == d.cols &&
         a.type == b.type && d.type == CUDA_R_32F;
}

}  // namespace

absl::Status ccoe::kernels::OpenCublasLt() { return absl::OkStatus(); }

const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? "CUBLAS_STATUS_SUCCESS" : "a cuBLASLt error";
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t,
                                        cudaDataType_t) {
  *operation = new cublasLtMatmulDescOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  delete operation;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                              cublasLtMatmulDescAttributes_t, const void* value,
                                              size_t bytes) {
  if (bytes != sizeof(operation->a)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&operation->a, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type,
                                          uint64_t rows, uint64_t cols, int64_t stride) {
  *layout = new Layout{type, rows, cols, stride};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                    cublasLtMatmulPreferenceAttributes_t,
                                                    const void*, size_t) {
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t, int,
                                              cublasLtMatmulHeuristicResult_t* results,
                                              int* count) {
  *count = Fits(operation, *a, *b, *d) ? 1 : 0;
  results[0] = {};
  return *count == 1 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t*, void*,
                              size_t, cudaStream_t stream) {
  if (!Fits(operation, *a_layout, *b_layout, *d_layout)) return CUBLAS_STATUS_NOT_SUPPORTED;
  const float alpha_value = *static_cast<const float*>(alpha);
  const float beta_value = *static_cast<const float*>(beta);
  ccoe::emulation::PutOnStream(stream,
                               [=, al = *a_layout, bl = *b_layout, cl = *c_layout, dl = *d_layout] {
                                 for (uint64_t col = 0; col < dl.cols; ++col) {
                                   for (uint64_t row = 0; row < dl.rows; ++row) {
                                     float sum = 0;
                                     for (uint64_t k = 0; k < al.rows; ++k) {
                                       sum += Element(a, al, k, row) * Element(b, bl, k, col);
                                     }
                                     sum *= alpha_value;
                                     if (beta_value != 0)
                                       sum += beta_value * Element(c, cl, row, col);
                                     static_cast<float*>(d)[col * dl.stride + row] = sum;
                                   }
                                 }
                               });
  return CUBLAS_STATUS_SUCCESS;
}
