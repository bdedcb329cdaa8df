// SPDX-License-Identifier: Apache-2.0
// Ops::PagedAttention on a GPU: cuts queries into items and chooses the kernel (attention.h).
#ifndef CCOE_KERNELS_CUDA_PAGED_ATTENTION_H_
#define CCOE_KERNELS_CUDA_PAGED_ATTENTION_H_

#include "kernels/attention.h"
#include "kernels/cuda/stream.h"
#include "kernels/op_shapes.h"

namespace ccoe::kernels {

// Of partial sums of one call: work is not split further than they have room here.
constexpr int64_t kMaxPartialBytes = int64_t{128} << 20;

// Workspace and host arrays that CudaPagedAttention asks for at most.
struct AttentionMemory {
  int64_t workspace = 0, arrays = 0;
};
AttentionMemory AttentionMemoryFor(const OpShapes::Attention& shape, int multiprocessors);

// See Ops::PagedAttention. The tensor-core kernel is used where `tensor_cores` allows it and it
// takes the cache.
void CudaPagedAttention(Stream* stream, bool tensor_cores, const PagedAttentionArgs& args);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_PAGED_ATTENTION_H_
