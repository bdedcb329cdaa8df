// SPDX-License-Identifier: Apache-2.0
// f16 and bf16 as stored bits, and their scalar conversions. Widening is exact; narrowing rounds to
// nearest even.
#ifndef CCOE_KERNELS_CPU_HALF_H_
#define CCOE_KERNELS_CPU_HALF_H_

#include <cstdint>
#include <cstring>

#include "kernels/dtype.h"

namespace ccoe::kernels {

struct BF16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

inline float FloatFromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline uint32_t BitsFromFloat(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline float ToF32(float value) { return value; }

inline float ToF32(BF16 value) { return FloatFromBits(static_cast<uint32_t>(value.bits) << 16); }

// The magnitude bits, moved to where f32 has them, are the value times 2^-112, subnormals included;
// the product with 2^112 is exact. Infinity and NaN keep their mantissa and get f32's exponent.
inline float ToF32(F16 value) {
  const uint32_t magnitude = (value.bits & 0x7fffu) << 13;
  const float scaled = FloatFromBits(magnitude) * FloatFromBits((127u + 112u) << 23);
  const uint32_t special = (value.bits & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u;
  return FloatFromBits(BitsFromFloat(scaled) | special | ((value.bits & 0x8000u) << 16));
}

// Element `i` of a row of f32, f16 or bf16.
inline float ElementF32(const void* row, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::kF16:
      return ToF32(static_cast<const F16*>(row)[i]);
    case DType::kBF16:
      return ToF32(static_cast<const BF16*>(row)[i]);
    default:
      return static_cast<const float*>(row)[i];
  }
}

inline void FromF32(float value, float* out) { *out = value; }

inline void FromF32(float value, BF16* out) {
  const uint32_t bits = BitsFromFloat(value);
  const uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  // A NaN whose payload sits in the low half must stay a NaN.
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  out->bits = static_cast<uint16_t>(nan ? (bits >> 16) | 0x40u : rounded >> 16);
}

// Values below f16's normal range are rounded by an f32 addition whose unit in the last place is
// f16's smallest subnormal; the others by integer arithmetic on the mantissa, where a carry moves
// into the exponent as it should.
inline void FromF32(float value, F16* out) {
  const uint32_t bits = BitsFromFloat(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t tiny = BitsFromFloat(FloatFromBits(magnitude) + 0.5f) - BitsFromFloat(0.5f);
  const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  uint32_t result = magnitude < (113u << 23) ? tiny : normal;
  if (magnitude >= (143u << 23)) result = 0x7c00u;  // at least 2^16: infinity
  if (magnitude > 0x7f800000u) result = 0x7e00u | ((magnitude >> 13) & 0x1ffu);  // NaN
  out->bits = static_cast<uint16_t>(sign | result);
}

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CPU_HALF_H_
