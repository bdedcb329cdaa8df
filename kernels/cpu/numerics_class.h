// SPDX-License-Identifier: Apache-2.0
// What the bits of the CPU's ops depend on.
#ifndef CCOE_KERNELS_CPU_NUMERICS_CLASS_H_
#define CCOE_KERNELS_CPU_NUMERICS_CLASS_H_

#include <string>

namespace ccoe::kernels {

// See Ops::NumericsClass.
std::string CpuNumericsClass();

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CPU_NUMERICS_CLASS_H_
