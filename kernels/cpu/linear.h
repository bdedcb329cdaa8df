// SPDX-License-Identifier: Apache-2.0
// The CPU's matrix product.
#ifndef CCOE_KERNELS_CPU_LINEAR_H_
#define CCOE_KERNELS_CPU_LINEAR_H_

#include "absl/types/span.h"
#include "kernels/cpu/scratch.h"
#include "kernels/linear.h"
#include "runtime/base/parallel.h"

namespace ccoe::kernels {

// See Ops::Linear. `packed` holds x in the kernel's layout during the call.
void CpuLinear(ThreadTeam* team, Scratch* packed, ConstMatrix x,
               absl::Span<const LinearPart> parts);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CPU_LINEAR_H_
