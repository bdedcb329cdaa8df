// SPDX-License-Identifier: Apache-2.0
// Ops::Linear on a GPU: chooses among the products of matmul.h and cuBLASLt.
#ifndef CCOE_KERNELS_CUDA_LINEAR_H_
#define CCOE_KERNELS_CUDA_LINEAR_H_

#include "absl/types/span.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/stream.h"
#include "kernels/linear.h"

namespace ccoe::kernels {

struct MatmulOptions {
  DType math = DType::kF32;
  bool deterministic = true;
};

// Bytes between rows, and the beginning, are multiples of 16; k is a multiple of 8: 16-byte loads
// of bf16 weights stay within their row.
bool HasFastWeights(const ConstMatrix& weight);
// The same for rows of f32.
bool HasFastRows(const ConstMatrix& x);

// Workspace that CudaLinear asks for at most: x [rows, in], all parts together [out, in].
int64_t LinearWorkspace(const MatmulOptions& options, int multiprocessors, int64_t rows, int64_t in,
                        int64_t out);

// The same for CudaHeadLinear; a head's x is [rows, in].
int64_t HeadLinearWorkspace(const MatmulOptions& options, int64_t rows, int64_t heads, int64_t in);

// See Ops::HeadLinear: one launch for all heads, or one for as many as 64 MiB of rounded rows are.
// Never by cuBLASLt.
void CudaHeadLinear(Stream* stream, const MatmulOptions& options, const HeadLinearArgs& args);

// See Ops::Linear. `blas` null: never used.
void CudaLinear(Stream* stream, Blas* blas, const MatmulOptions& options, const ConstMatrix& x,
                absl::Span<const LinearPart> parts);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_LINEAR_H_
