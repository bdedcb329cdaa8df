// SPDX-License-Identifier: Apache-2.0
// The experts of a mixture-of-experts layer, from the gate's choice to the combined rows, on the
// CPU.
#ifndef CCOE_KERNELS_CPU_MOE_FFN_H_
#define CCOE_KERNELS_CPU_MOE_FFN_H_

#include "kernels/cpu/scratch.h"
#include "kernels/moe.h"
#include "runtime/base/parallel.h"

namespace ccoe::kernels {

// See Ops::MoeFfn: sorts the pairs by expert, then CpuGroupedFfn and CpuCombineRows. `packed` as
// there; args.inputs, gate and up are left alone.
void CpuMoeFfn(ThreadTeam* team, Scratch* packed, const MoeFfnArgs& args);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CPU_MOE_FFN_H_
