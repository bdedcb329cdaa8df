// SPDX-License-Identifier: Apache-2.0
// The functions of cuBLASLt that kernels/cuda uses, each of which calls the library's own. Names
// and meanings are cublasLt.h's.
#include "kernels/cuda/cublaslt_library.h"

#include <cublasLt.h>

#include "kernels/cuda/dynamic/dynamic_library.h"

using ::ccoe::kernels::CallIn;
using ::ccoe::kernels::DynamicLibrary;

namespace {

#define CCOE_TEXT_OF(x) #x
#define CCOE_TEXT(x) CCOE_TEXT_OF(x)

// All of the functions below.
constexpr const char* kNeeded[] = {"cublasLtGetStatusString",
                                   "cublasLtCreate",
                                   "cublasLtDestroy",
                                   "cublasLtMatmulDescCreate",
                                   "cublasLtMatmulDescDestroy",
                                   "cublasLtMatmulDescSetAttribute",
                                   "cublasLtMatrixLayoutCreate",
                                   "cublasLtMatrixLayoutDestroy",
                                   "cublasLtMatmulPreferenceCreate",
                                   "cublasLtMatmulPreferenceDestroy",
                                   "cublasLtMatmulPreferenceSetAttribute",
                                   "cublasLtMatmulAlgoGetHeuristic",
                                   "cublasLtMatmul"};

// Opened once for the process, and never closed.
const DynamicLibrary& Library() {
  static const auto* const library =
      new DynamicLibrary("cuBLASLt", "libcublasLt.so." CCOE_TEXT(CUBLAS_VER_MAJOR), kNeeded);
  return *library;
}

const char* MissingText() { return "cuBLASLt cannot be used"; }

}  // namespace

absl::Status ccoe::kernels::OpenCublasLt() { return Library().status(); }

const char* cublasLtGetStatusString(cublasStatus_t status) {
  return CallIn<&cublasLtGetStatusString>(Library(), "cublasLtGetStatusString", MissingText(),
                                          status);
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* light_handle) {
  return CallIn<&cublasLtCreate>(Library(), "cublasLtCreate", CUBLAS_STATUS_NOT_INITIALIZED,
                                 light_handle);
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t light_handle) {
  return CallIn<&cublasLtDestroy>(Library(), "cublasLtDestroy", CUBLAS_STATUS_NOT_INITIALIZED,
                                  light_handle);
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* matmul_desc,
                                        cublasComputeType_t compute_type,
                                        cudaDataType_t scale_type) {
  return CallIn<&cublasLtMatmulDescCreate>(Library(), "cublasLtMatmulDescCreate",
                                           CUBLAS_STATUS_NOT_INITIALIZED, matmul_desc, compute_type,
                                           scale_type);
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t matmul_desc) {
  return CallIn<&cublasLtMatmulDescDestroy>(Library(), "cublasLtMatmulDescDestroy",
                                            CUBLAS_STATUS_NOT_INITIALIZED, matmul_desc);
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t matmul_desc,
                                              cublasLtMatmulDescAttributes_t attr, const void* buf,
                                              size_t size_in_bytes) {
  return CallIn<&cublasLtMatmulDescSetAttribute>(Library(), "cublasLtMatmulDescSetAttribute",
                                                 CUBLAS_STATUS_NOT_INITIALIZED, matmul_desc, attr,
                                                 buf, size_in_bytes);
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* mat_layout, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t ld) {
  return CallIn<&cublasLtMatrixLayoutCreate>(Library(), "cublasLtMatrixLayoutCreate",
                                             CUBLAS_STATUS_NOT_INITIALIZED, mat_layout, type, rows,
                                             cols, ld);
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t mat_layout) {
  return CallIn<&cublasLtMatrixLayoutDestroy>(Library(), "cublasLtMatrixLayoutDestroy",
                                              CUBLAS_STATUS_NOT_INITIALIZED, mat_layout);
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* pref) {
  return CallIn<&cublasLtMatmulPreferenceCreate>(Library(), "cublasLtMatmulPreferenceCreate",
                                                 CUBLAS_STATUS_NOT_INITIALIZED, pref);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t pref) {
  return CallIn<&cublasLtMatmulPreferenceDestroy>(Library(), "cublasLtMatmulPreferenceDestroy",
                                                  CUBLAS_STATUS_NOT_INITIALIZED, pref);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t pref,
                                                    cublasLtMatmulPreferenceAttributes_t attr,
                                                    const void* buf, size_t size_in_bytes) {
  return CallIn<&cublasLtMatmulPreferenceSetAttribute>(
      Library(), "cublasLtMatmulPreferenceSetAttribute", CUBLAS_STATUS_NOT_INITIALIZED, pref, attr,
      buf, size_in_bytes);
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(
    cublasLtHandle_t light_handle, cublasLtMatmulDesc_t operation_desc,
    cublasLtMatrixLayout_t a_layout, cublasLtMatrixLayout_t bdesc, cublasLtMatrixLayout_t cdesc,
    cublasLtMatrixLayout_t ddesc, cublasLtMatmulPreference_t preference, int requested_algo_count,
    cublasLtMatmulHeuristicResult_t* heuristic_results_array, int* return_algo_count) {
  return CallIn<&cublasLtMatmulAlgoGetHeuristic>(
      Library(), "cublasLtMatmulAlgoGetHeuristic", CUBLAS_STATUS_NOT_INITIALIZED, light_handle,
      operation_desc, a_layout, bdesc, cdesc, ddesc, preference, requested_algo_count,
      heuristic_results_array, return_algo_count);
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t light_handle, cublasLtMatmulDesc_t compute_desc,
                              const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                              const void* b, cublasLtMatrixLayout_t bdesc, const void* beta,
                              const void* c, cublasLtMatrixLayout_t cdesc, void* d,
                              cublasLtMatrixLayout_t ddesc, const cublasLtMatmulAlgo_t* algo,
                              void* workspace, size_t workspace_size_in_bytes,
                              cudaStream_t stream) {
  return CallIn<&cublasLtMatmul>(Library(), "cublasLtMatmul", CUBLAS_STATUS_NOT_INITIALIZED,
                                 light_handle, compute_desc, alpha, a, a_layout, b, bdesc, beta, c,
                                 cdesc, d, ddesc, algo, workspace, workspace_size_in_bytes, stream);
}
