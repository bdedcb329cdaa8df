// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/blas.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/cublaslt_library.h"
#include "runtime/base/status_macros.h"

namespace ccoe::kernels {
namespace {

absl::Status BlasStatus(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("cuda: ", what, ": cuBLASLt: ", cublasLtGetStatusString(status)));
}

// The largest power of two up to 16 that divides all addresses and row lengths.
unsigned AlignmentOf(const BlasProduct& p) {
  const size_t bytes = DTypeBytes(p.dtype);
  const uint64_t all = reinterpret_cast<uintptr_t>(p.x) | reinterpret_cast<uintptr_t>(p.weight) |
                       reinterpret_cast<uintptr_t>(p.out) | (p.x_stride * bytes) |
                       (p.weight_stride * bytes) | (p.out_stride * sizeof(float)) | 16;
  return static_cast<unsigned>(all & (~all + 1));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Blas>> Blas::Create() {
  absl::Status status = OpenCublasLt();
  if (!status.ok()) return Annotate(status, "cuda: fast numerics");
  auto blas = std::unique_ptr<Blas>(new Blas);
  status = BlasStatus(cublasLtCreate(&blas->handle_), "opening");
  if (!status.ok()) return status;
  return blas;
}

Blas::~Blas() {
  for (auto& [shape, plan] : plans_) FreePlan(&plan);
  if (handle_ != nullptr) cublasLtDestroy(handle_);
}

void Blas::FreePlan(Plan* plan) {
  if (plan->operation != nullptr) cublasLtMatmulDescDestroy(plan->operation);
  for (cublasLtMatrixLayout_t layout : {plan->weight, plan->x, plan->out}) {
    if (layout != nullptr) cublasLtMatrixLayoutDestroy(layout);
  }
  *plan = {};
}

// cuBLASLt thinks in columns: out^T [cols, rows] = weight^T^T * x^T, each of our row-major matrices
// being its column-major transpose.
Blas::Plan Blas::MakePlan(const BlasProduct& p, unsigned alignment) {
  const cudaDataType_t type = p.dtype == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF;
  const cublasOperation_t transposed = CUBLAS_OP_T;
  const size_t workspace = kWorkspaceBytes;
  Plan plan;
  cublasLtMatmulPreference_t preference = nullptr;
  cublasLtMatmulHeuristicResult_t found = {};
  int count = 0;
  plan.usable =
      cublasLtMatmulDescCreate(&plan.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F) ==
          CUBLAS_STATUS_SUCCESS &&
      cublasLtMatmulDescSetAttribute(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                     sizeof(transposed)) == CUBLAS_STATUS_SUCCESS &&
      cublasLtMatrixLayoutCreate(&plan.weight, type, p.k, p.cols, p.weight_stride) ==
          CUBLAS_STATUS_SUCCESS &&
      cublasLtMatrixLayoutCreate(&plan.x, type, p.k, p.rows, p.x_stride) == CUBLAS_STATUS_SUCCESS &&
      cublasLtMatrixLayoutCreate(&plan.out, CUDA_R_32F, p.cols, p.rows, p.out_stride) ==
          CUBLAS_STATUS_SUCCESS &&
      cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS;
  if (plan.usable) {
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                         &workspace, sizeof(workspace));
    for (cublasLtMatmulPreferenceAttributes_t attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      const uint32_t bytes = alignment;
      cublasLtMatmulPreferenceSetAttribute(preference, attribute, &bytes, sizeof(bytes));
    }
    plan.usable = cublasLtMatmulAlgoGetHeuristic(handle_, plan.operation, plan.weight, plan.x,
                                                 plan.out, plan.out, preference, 1, &found,
                                                 &count) == CUBLAS_STATUS_SUCCESS &&
                  count == 1;
  }
  if (preference != nullptr) cublasLtMatmulPreferenceDestroy(preference);
  plan.algorithm = found.algo;
  return plan;
}

bool Blas::Multiply(const BlasProduct& p, void* workspace, Stream* stream) {
  const unsigned alignment = AlignmentOf(p);
  const Shape shape(p.rows, p.cols, p.k, p.x_stride, p.weight_stride, p.out_stride, p.dtype,
                    alignment);
  auto found = plans_.find(shape);
  if (found == plans_.end()) {
    if (plans_.size() >= kMaxPlans) {
      for (auto& [old_shape, plan] : plans_) FreePlan(&plan);
      plans_.clear();
    }
    found = plans_.emplace(shape, MakePlan(p, alignment)).first;
  }
  const Plan& plan = found->second;
  if (!plan.usable) return false;
  const int64_t identity[] = {reinterpret_cast<int64_t>(p.x),
                              reinterpret_cast<int64_t>(p.weight),
                              reinterpret_cast<int64_t>(p.out),
                              reinterpret_cast<int64_t>(workspace),
                              p.rows,
                              p.cols,
                              p.k,
                              p.x_stride,
                              p.weight_stride,
                              p.out_stride,
                              static_cast<int64_t>(p.dtype),
                              p.accumulate};
  if (!stream->Enqueues(identity, sizeof(identity))) return true;
  const float alpha = 1.0f, beta = p.accumulate ? 1.0f : 0.0f;
  stream->Fail(
      BlasStatus(cublasLtMatmul(handle_, plan.operation, &alpha, p.weight, plan.weight, p.x, plan.x,
                                &beta, p.out, plan.out, p.out, plan.out, &plan.algorithm, workspace,
                                kWorkspaceBytes, stream->get()),
                 "a matrix product"));
  return true;
}

}  // namespace ccoe::kernels
