// SPDX-License-Identifier: Apache-2.0
// What kernels share: element types, reductions, activations. Contraction is off in this folder
// (-fmad=false), so a product and a sum fuse only where fmaf says so and kernels of different
// shapes compute the same bits from the same expression.
#ifndef CCOE_KERNELS_CUDA_DEVICE_MATH_CUH_
#define CCOE_KERNELS_CUDA_DEVICE_MATH_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math_constants.h>

#include <cstdint>

#include "kernels/activation.h"
#include "kernels/dtype.h"

namespace ccoe::kernels {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// Conversions as kernels/cpu/half.h has them: widening is exact, narrowing rounds to nearest even.
__device__ __forceinline__ float ToFloat(float x) { return x; }
__device__ __forceinline__ float ToFloat(__half x) { return __half2float(x); }
__device__ __forceinline__ float ToFloat(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class T>
__device__ __forceinline__ T FromFloat(float x);
template <>
__device__ __forceinline__ float FromFloat<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ __half FromFloat<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ __forceinline__ __nv_bfloat16 FromFloat<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// Element i of memory of a float dtype known at run time (the same for all threads of a block).
__device__ __forceinline__ float LoadElement(const void* data, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::kF16:
      return ToFloat(static_cast<const __half*>(data)[i]);
    case DType::kBF16:
      return ToFloat(static_cast<const __nv_bfloat16*>(data)[i]);
    default:
      return static_cast<const float*>(data)[i];
  }
}

__device__ __forceinline__ void StoreElement(void* data, DType dtype, int64_t i, float value) {
  switch (dtype) {
    case DType::kF16:
      static_cast<__half*>(data)[i] = FromFloat<__half>(value);
      return;
    case DType::kBF16:
      static_cast<__nv_bfloat16*>(data)[i] = FromFloat<__nv_bfloat16>(value);
      return;
    default:
      static_cast<float*>(data)[i] = value;
  }
}

// Over all lanes of a warp, by a fixed tree; every lane gets the result.
__device__ __forceinline__ float WarpSum(float x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}

__device__ __forceinline__ float WarpMax(float x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, step));
  }
  return x;
}

// The forms that lose no digits where gate is far below zero: 1 + tanh(z) = 2 sigmoid(2 z), and
// 1 + erf(z) = erfc(-z).
__device__ __forceinline__ float Activate(Activation activation, float x) {
  switch (activation) {
    case Activation::kGeluTanh: {
      const float z = 0.7978845608028654f * (x + 0.044715f * x * x * x);
      return x / (1.0f + expf(-2.0f * z));
    }
    case Activation::kGeluErf:
      return 0.5f * x * erfcf(-0.7071067811865476f * x);
    default:
      return x / (1.0f + expf(-x));
  }
}

// A pointer to row `row` of a view that lies in kernel parameters.
template <class T>
__device__ __forceinline__ T* RowOf(T* data, int64_t stride, int64_t row) {
  return data + row * stride;
}

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_DEVICE_MATH_CUH_
