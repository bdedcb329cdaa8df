// SPDX-License-Identifier: Apache-2.0
// The CPU's paged attention.
#ifndef CCOE_KERNELS_CPU_ATTENTION_H_
#define CCOE_KERNELS_CPU_ATTENTION_H_

#include "kernels/attention.h"
#include "kernels/cpu/scratch.h"
#include "runtime/base/parallel.h"

namespace ccoe::kernels {

// See Ops::PagedAttention. `partials` holds what a split of long contexts leaves between its two
// loops.
void CpuPagedAttention(ThreadTeam* team, Scratch* partials, const PagedAttentionArgs& args);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CPU_ATTENTION_H_
