// SPDX-License-Identifier: Apache-2.0
// Rotary embedding and the append to the paged KV cache on the CPU.
#ifndef CCOE_KERNELS_CPU_ROPE_KV_H_
#define CCOE_KERNELS_CPU_ROPE_KV_H_

#include "kernels/attention.h"
#include "runtime/base/parallel.h"

namespace ccoe::kernels {

// See Ops::RopeAngles.
void CpuRopeAngles(ThreadTeam* team, const RopeAnglesArgs& args);

// See Ops::RopeAndAppendKv.
void CpuRopeAndAppendKv(ThreadTeam* team, const RopeAndAppendKvArgs& args);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CPU_ROPE_KV_H_
