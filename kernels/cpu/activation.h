// SPDX-License-Identifier: Apache-2.0
// Gated activations on the CPU.
#ifndef CCOE_KERNELS_CPU_ACTIVATION_H_
#define CCOE_KERNELS_CPU_ACTIVATION_H_

#include <cstdint>

#include "kernels/activation.h"
#include "kernels/view.h"
#include "runtime/base/parallel.h"

namespace ccoe::kernels {

// See Ops::GatedActivation. Relative error about 1e-6 where the result is not itself tiny.
void CpuGatedActivation(ThreadTeam* team, Activation activation, ConstMatrix gate, ConstMatrix up,
                        Matrix out);

// out[i] = activation(gate[i]) * up[i] for i < cols; out may be gate or up. For the tasks of other
// kernels: an element's bits do not depend on where in a row it is.
using ActivateRowFunction = void (*)(Activation activation, const float* gate, const float* up,
                                     int64_t cols, float* out);
ActivateRowFunction CpuActivateRow();

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CPU_ACTIVATION_H_
