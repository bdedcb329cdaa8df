// SPDX-License-Identifier: Apache-2.0
// Stands in for CUDA's header of this name: the type and its conversions.
#ifndef CCOE_TESTS_KERNELS_CUDA_EMULATION_INCLUDE_CUDA_BF16_H_
#define CCOE_TESTS_KERNELS_CUDA_EMULATION_INCLUDE_CUDA_BF16_H_

#include <cstdint>

#include "kernels/cpu/half.h"

struct __nv_bfloat16 {
  uint16_t bits;
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;  // x in the low half
};

inline float __bfloat162float(__nv_bfloat16 value) {
  return ccoe::kernels::ToF32(ccoe::kernels::BF16{value.bits});
}
inline __nv_bfloat16 __float2bfloat16_rn(float value) {
  ccoe::kernels::BF16 rounded;
  ccoe::kernels::FromF32(value, &rounded);
  return {rounded.bits};
}
inline __nv_bfloat16 __float2bfloat16(float value) { return __float2bfloat16_rn(value); }
inline __nv_bfloat162 __floats2bfloat162_rn(float low, float high) {
  return {__float2bfloat16_rn(low), __float2bfloat16_rn(high)};
}
inline uint16_t __bfloat16_as_ushort(__nv_bfloat16 value) { return value.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(uint16_t bits) { return {bits}; }

#endif  // CCOE_TESTS_KERNELS_CUDA_EMULATION_INCLUDE_CUDA_BF16_H_
