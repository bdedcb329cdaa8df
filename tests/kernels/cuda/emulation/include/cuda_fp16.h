// SPDX-License-Identifier: Apache-2.0
// Stands in for CUDA's header of this name: the type and its conversions.
#ifndef CCOE_TESTS_KERNELS_CUDA_EMULATION_INCLUDE_CUDA_FP16_H_
#define CCOE_TESTS_KERNELS_CUDA_EMULATION_INCLUDE_CUDA_FP16_H_

#include <cstdint>

#include "kernels/cpu/half.h"

struct __half {
  uint16_t bits;
};
struct alignas(4) __half2 {
  __half x, y;  // x in the low half
};

inline float __half2float(__half value) {
  return ccoe::kernels::ToF32(ccoe::kernels::F16{value.bits});
}
inline __half __float2half_rn(float value) {
  ccoe::kernels::F16 rounded;
  ccoe::kernels::FromF32(value, &rounded);
  return {rounded.bits};
}
inline __half __float2half(float value) { return __float2half_rn(value); }
inline __half2 __floats2half2_rn(float low, float high) {
  return {__float2half_rn(low), __float2half_rn(high)};
}
inline uint16_t __half_as_ushort(__half value) { return value.bits; }
inline __half __ushort_as_half(uint16_t bits) { return {bits}; }

#endif  // CCOE_TESTS_KERNELS_CUDA_EMULATION_INCLUDE_CUDA_FP16_H_
