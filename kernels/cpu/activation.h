// Gated activations on the CPU.
#ifndef CCOE_KERNELS_CPU_ACTIVATION_H_
#define CCOE_KERNELS_CPU_ACTIVATION_H_

#include "kernels/ops.h"
#include "runtime/base/parallel.h"

namespace ccoe::kernels {

// See Ops::GatedActivation. Relative error about 1e-6 where the result is not itself tiny.
void CpuGatedActivation(ThreadTeam* team, Activation activation, ConstMatrix gate, ConstMatrix up,
                        Matrix out);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CPU_ACTIVATION_H_
