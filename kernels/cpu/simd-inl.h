// SPDX-License-Identifier: Apache-2.0
// Vector helpers shared by the CPU kernels: exact widening loads and the fixed-order sum of lanes.
// Included once for each Highway target, so the guard toggles.
#if defined(CCOE_KERNELS_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CCOE_KERNELS_CPU_SIMD_INL_H_
#undef CCOE_KERNELS_CPU_SIMD_INL_H_
#else
#define CCOE_KERNELS_CPU_SIMD_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/cpu/half.h"

HWY_BEFORE_NAMESPACE();
namespace ccoe::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using VF = hn::Vec<DF>;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(DF()));

// Loads as f32, exactly, from any alignment.
template <class D>
HWY_INLINE hn::Vec<D> LoadF32(D d, const float* HWY_RESTRICT from) {
  return hn::LoadU(d, from);
}

template <class D>
HWY_INLINE hn::Vec<D> LoadF32(D d, const BF16* HWY_RESTRICT from) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::Rebind<uint32_t, D> d32;
  const auto bits = hn::PromoteTo(d32, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(from)));
  return hn::BitCast(d, hn::ShiftLeft<16>(bits));
}

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
template <class D>
HWY_INLINE hn::Vec<D> LoadF32(D d, const F16* HWY_RESTRICT from) {
  const hn::Rebind<hwy::float16_t, D> d16;
  return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(from)));
}
#else
// Highway's own widening without F16C is wrong for infinities: see ToF32(F16) for this one.
template <class D>
HWY_INLINE hn::Vec<D> LoadF32(D d, const F16* HWY_RESTRICT from) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::Rebind<uint32_t, D> d32;
  const auto half = hn::PromoteTo(d32, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(from)));
  const auto magnitude = hn::And(half, hn::Set(d32, 0x7fffu));
  const auto sign = hn::ShiftLeft<16>(hn::Xor(half, magnitude));
  const auto scaled = hn::Mul(hn::BitCast(d, hn::ShiftLeft<13>(magnitude)), hn::Set(d, 0x1.0p112f));
  const auto exponent = hn::Set(d32, 0x7c00u);
  const auto special =
      hn::IfThenElseZero(hn::Eq(hn::And(half, exponent), exponent), hn::Set(d32, 0x7f800000u));
  return hn::BitCast(d, hn::Or(hn::Or(hn::BitCast(d32, scaled), special), sign));
}
#endif

// The first `count` < kLanes elements as f32, zeros behind them; reads nothing further.
template <class T>
HWY_INLINE VF LoadTailF32(const T* HWY_RESTRICT from, int64_t count) {
  const DF d;
  HWY_ALIGN float lanes[HWY_MAX_BYTES / sizeof(float)] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = ToF32(from[i]);
  return hn::Load(d, lanes);
}

HWY_INLINE void StoreTailF32(VF v, float* HWY_RESTRICT to, int64_t count) {
  const DF d;
  HWY_ALIGN float lanes[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(v, d, lanes);
  for (int64_t i = 0; i < count; ++i) to[i] = lanes[i];
}

#if HWY_TARGET == HWY_SCALAR
// sums[i] = the sum of the lanes of v_i. The order of additions is the same for all four.
HWY_INLINE void SumLanes4(VF v0, VF v1, VF v2, VF v3, float* HWY_RESTRICT sums) {
  sums[0] = hn::GetLane(v0);
  sums[1] = hn::GetLane(v1);
  sums[2] = hn::GetLane(v2);
  sums[3] = hn::GetLane(v3);
}
#else
// Adds the 128-bit blocks of a vector, halves first.
template <class D>
HWY_INLINE hn::Vec<hn::CappedTag<float, 4> > FoldBlocks(D d, hn::Vec<D> v) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    return v;
  } else {
    const hn::Half<D> half;
    return FoldBlocks(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
}

// Lane i of the result is the sum of the lanes of v_i, by a transpose within 128-bit blocks. Each
// v_i goes through the same tree of additions.
HWY_INLINE hn::Vec<hn::CappedTag<float, 4> > SumLanesOf4(VF v0, VF v1, VF v2, VF v3) {
  const DF d;
  const hn::Repartition<double, DF> d64;
  const VF t01 = hn::Add(hn::InterleaveLower(d, v0, v1), hn::InterleaveUpper(d, v0, v1));
  const VF t23 = hn::Add(hn::InterleaveLower(d, v2, v3), hn::InterleaveUpper(d, v2, v3));
  const auto low = hn::InterleaveLower(d64, hn::BitCast(d64, t01), hn::BitCast(d64, t23));
  const auto high = hn::InterleaveUpper(d64, hn::BitCast(d64, t01), hn::BitCast(d64, t23));
  return FoldBlocks(d, hn::Add(hn::BitCast(d, low), hn::BitCast(d, high)));
}

// As above, stored.
HWY_INLINE void SumLanes4(VF v0, VF v1, VF v2, VF v3, float* HWY_RESTRICT sums) {
  hn::StoreU(SumLanesOf4(v0, v1, v2, v3), hn::CappedTag<float, 4>(), sums);
}
#endif

HWY_INLINE float SumLanes(VF v) {
  float sums[4];
  SumLanes4(v, v, v, v, sums);
  return sums[0];
}

}  // namespace HWY_NAMESPACE
}  // namespace ccoe::kernels
HWY_AFTER_NAMESPACE();

#endif  // CCOE_KERNELS_CPU_SIMD_INL_H_
