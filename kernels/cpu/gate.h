// SPDX-License-Identifier: Apache-2.0
// The gate of a mixture-of-experts layer on the CPU.
#ifndef CCOE_KERNELS_CPU_GATE_H_
#define CCOE_KERNELS_CPU_GATE_H_

#include "kernels/moe.h"
#include "runtime/base/parallel.h"

namespace ccoe::kernels {

// See Ops::TopKGate. Scores that are not numbers count as the lowest, so that a row of them still
// chooses experts, and carries them on in its weights.
void CpuTopKGate(ThreadTeam* team, const TopKGateArgs& args);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CPU_GATE_H_
