// SPDX-License-Identifier: Apache-2.0
// Stands in for CUDA's header of this name.
#ifndef CCOE_TESTS_KERNELS_CUDA_EMULATION_INCLUDE_MATH_CONSTANTS_H_
#define CCOE_TESTS_KERNELS_CUDA_EMULATION_INCLUDE_MATH_CONSTANTS_H_

#define CUDART_INF_F __builtin_inff()
#define CUDART_NAN_F __builtin_nanf("")

#endif  // CCOE_TESTS_KERNELS_CUDA_EMULATION_INCLUDE_MATH_CONSTANTS_H_
