// SPDX-License-Identifier: Apache-2.0
// The CPU's matrix products of attention heads.
#ifndef CCOE_KERNELS_CPU_HEAD_LINEAR_H_
#define CCOE_KERNELS_CPU_HEAD_LINEAR_H_

#include "kernels/cpu/scratch.h"
#include "kernels/linear.h"
#include "runtime/base/parallel.h"

namespace ccoe::kernels {

// See Ops::HeadLinear. `packed` holds x in the kernel's layout during the call.
void CpuHeadLinear(ThreadTeam* team, Scratch* packed, const HeadLinearArgs& args);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CPU_HEAD_LINEAR_H_
