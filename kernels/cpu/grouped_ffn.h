// SPDX-License-Identifier: Apache-2.0
// The feed-forward blocks of several experts on the CPU.
#ifndef CCOE_KERNELS_CPU_GROUPED_FFN_H_
#define CCOE_KERNELS_CPU_GROUPED_FFN_H_

#include "kernels/cpu/scratch.h"
#include "kernels/moe.h"
#include "runtime/base/parallel.h"

namespace ccoe::kernels {

// See Ops::GroupedFfn. `packed` holds the experts' inputs in the kernel's layout during the call;
// args.inputs, gate and up are left alone.
void CpuGroupedFfn(ThreadTeam* team, Scratch* packed, const GroupedFfnArgs& args);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CPU_GROUPED_FFN_H_
