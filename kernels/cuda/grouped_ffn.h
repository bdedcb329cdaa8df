// Ops::GroupedFfn on a GPU: two grouped products (matmul.h), the activation fused into the first.
#ifndef CCOE_KERNELS_CUDA_GROUPED_FFN_H_
#define CCOE_KERNELS_CUDA_GROUPED_FFN_H_

#include "kernels/cuda/linear.h"
#include "kernels/cuda/stream.h"
#include "kernels/moe.h"

namespace ccoe::kernels {

// See Ops::GroupedFfn. args.inputs, gate and up are left alone: what lies between the products is
// in the stream's workspace, [pairs, intermediate].
void CudaGroupedFfn(Stream* stream, const MatmulOptions& options, const GroupedFfnArgs& args);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_GROUPED_FFN_H_
