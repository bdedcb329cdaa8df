// SPDX-License-Identifier: Apache-2.0
// RMS normalisation on the CPU.
#ifndef CCOE_KERNELS_CPU_NORM_H_
#define CCOE_KERNELS_CPU_NORM_H_

#include "kernels/view.h"
#include "runtime/base/parallel.h"

namespace ccoe::kernels {

// See Ops::RmsNorm.
void CpuRmsNorm(ThreadTeam* team, ConstMatrix x, ConstMatrix weight, float eps, Matrix out);

// See Ops::AddRmsNorm.
void CpuAddRmsNorm(ThreadTeam* team, ConstMatrix x, ConstMatrix weight, float eps, Matrix sum);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CPU_NORM_H_
