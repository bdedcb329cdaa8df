// SPDX-License-Identifier: Apache-2.0
// Ops::MoeFfn on a GPU: a sort on the device, the grouped products on as many blocks as it could
// ask for at most, and the sum of each row's contributions.
#ifndef CCOE_KERNELS_CUDA_MOE_FFN_H_
#define CCOE_KERNELS_CUDA_MOE_FFN_H_

#include "kernels/cuda/expert_tables.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/stream.h"
#include "kernels/moe.h"

namespace ccoe::kernels {

// See Ops::MoeFfn. `tables` are of `stream`. args.inputs, gate and up are left alone: what lies
// between the products, and the sorted pairs, are in the stream's workspace.
void CudaMoeFfn(Stream* stream, ExpertTables* tables, const MatmulOptions& options,
                const MoeFfnArgs& args);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_MOE_FFN_H_
