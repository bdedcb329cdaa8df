// Ops::PagedAttention on a GPU: cuts queries into items and chooses the kernel (attention.h).
#ifndef CCOE_KERNELS_CUDA_PAGED_ATTENTION_H_
#define CCOE_KERNELS_CUDA_PAGED_ATTENTION_H_

#include "kernels/attention.h"
#include "kernels/cuda/stream.h"

namespace ccoe::kernels {

// See Ops::PagedAttention. The tensor-core kernel is used where `tensor_cores` allows it and it
// takes the cache.
void CudaPagedAttention(Stream* stream, bool tensor_cores, const PagedAttentionArgs& args);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_PAGED_ATTENTION_H_
