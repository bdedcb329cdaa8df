// SPDX-License-Identifier: Apache-2.0
// Whose results have the same bits. Two processes give the same query the same bits where their
// weights and their numerics classes are the same.
#ifndef CCOE_KERNELS_NUMERICS_CLASS_H_
#define CCOE_KERNELS_NUMERICS_CLASS_H_

#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/dtype.h"
#include "kernels/ops.h"

namespace ccoe::kernels {

// Raised by whoever changes a bit of any op's results: the order of a sum, a rounding, a
// polynomial. The CPU's kernels and the GPU's are counted apart.
constexpr int kCpuKernelSet = 1;
constexpr int kCudaKernelSet = 1;

// The class of a model served by `ops` with a KV cache of `kv_dtype`:
// "cpu/avx2/k1/f32/glibc-2.36/kv-f32", "cuda/sm90/k1/bf16/deterministic/kv-bf16".
inline std::string NumericsClassOf(const Ops& ops, DType kv_dtype) {
  return absl::StrCat(ops.NumericsClass(), "/kv-", DTypeName(kv_dtype));
}

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_NUMERICS_CLASS_H_
