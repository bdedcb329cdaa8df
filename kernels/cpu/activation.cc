// SPDX-License-Identifier: Apache-2.0
// silu(g) = g / (1 + exp(-g)). Both GELUs (Hendrycks and Gimpel 2016, arXiv 1606.08415) are written
// without the difference that loses their negative tail: the tanh form is g / (1 + exp(-2u)), the
// erf form g * erfc(-g / sqrt 2) / 2.
#include "kernels/cpu/activation.h"

#include <cstdint>

#include "kernels/cpu/parallel_rows.h"
#include "runtime/base/check.h"

// The order of these matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/activation.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "hwy/contrib/math/math-inl.h"
#include "kernels/cpu/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace ccoe::kernels {
namespace HWY_NAMESPACE {

// exp(x) of x <= 88; above, the largest x whose exponential is finite stands for it.
HWY_INLINE VF ExpClamped(VF x) {
  const DF d;
  return hn::Exp(d, hn::Min(x, hn::Set(d, 88.0f)));
}

// `value` of an activation at g, but zero where g is so far down that only its clamped exponential
// keeps it from zero.
HWY_INLINE VF ZeroFarDown(VF g, VF value) {
  return hn::IfThenElseZero(hn::Not(hn::Lt(g, hn::Set(DF(), -1e4f))), value);
}

struct Silu {
  static HWY_INLINE VF Of(VF g) {
    const DF d;
    return ZeroFarDown(g, hn::Div(g, hn::Add(hn::Set(d, 1.0f), ExpClamped(hn::Neg(g)))));
  }
};

struct GeluTanh {
  static HWY_INLINE VF Of(VF g) {
    const DF d;
    constexpr float kTwiceSqrtTwoOverPi = 1.5957691216057308f;
    const VF cube = hn::Mul(hn::Mul(g, g), hn::Mul(g, hn::Set(d, 0.044715f)));
    const VF twice_u = hn::Mul(hn::Add(g, cube), hn::Set(d, kTwiceSqrtTwoOverPi));
    return ZeroFarDown(g, hn::Div(g, hn::Add(hn::Set(d, 1.0f), ExpClamped(hn::Neg(twice_u)))));
  }
};

struct GeluErf {
  // erfc(x) / 2 of x = |g| / sqrt 2: exp(-x^2) t Q(t) with t = 1 / (1 + 0.3 x). Q interpolates
  // exp(x^2) erfc(x) / t at the Chebyshev nodes of x in [0, 10], relative error 2.5e-8. exp's
  // argument is carried in two floats, since its rounding error would be multiplied with it.
  static HWY_INLINE VF HalfErfc(VF g) {
    const DF d;
    const VF half = hn::Mul(g, hn::Set(d, 0.5f));
    const VF square = hn::Mul(half, g);
    const VF rest = hn::MulSub(half, g, square);
    const VF one = hn::Set(d, 1.0f);
    const VF x = hn::Mul(hn::Abs(g), hn::Set(d, 0.70710678118654752f));
    const VF t = hn::Div(one, hn::MulAdd(x, hn::Set(d, 0.3f), one));
    VF q = hn::Set(d, -0.130770877f);
    q = hn::MulAdd(q, t, hn::Set(d, 0.491934271f));
    q = hn::MulAdd(q, t, hn::Set(d, -0.526151663f));
    q = hn::MulAdd(q, t, hn::Set(d, 0.564514242f));
    q = hn::MulAdd(q, t, hn::Set(d, -0.106983362f));
    q = hn::MulAdd(q, t, hn::Set(d, 0.220539169f));
    q = hn::MulAdd(q, t, hn::Set(d, 0.146796022f));
    q = hn::MulAdd(q, t, hn::Set(d, 0.17094912f));
    q = hn::MulAdd(q, t, hn::Set(d, 0.169173058f));
    const VF gauss = hn::Mul(hn::Exp(d, hn::Neg(square)), hn::Sub(one, rest));
    return hn::Mul(hn::Mul(gauss, hn::Set(d, 0.5f)), hn::Mul(t, q));
  }

  static HWY_INLINE VF Of(VF g) {
    const DF d;
    const VF tail = HalfErfc(g);
    const VF above = hn::Sub(hn::Set(d, 1.0f), tail);
    const VF gelu = hn::Mul(g, hn::IfThenElse(hn::Ge(g, hn::Zero(d)), above, tail));
    // Far out the square is infinite and its rest not a number.
    return hn::IfThenElse(hn::Gt(g, hn::Set(d, 1e4f)), g, ZeroFarDown(g, gelu));
  }
};

template <class F>
void GateRow(const float* gate, const float* up, int64_t cols, float* out) {
  const DF d;
  int64_t i = 0;
  for (; i + kLanes <= cols; i += kLanes) {
    hn::StoreU(hn::Mul(F::Of(hn::LoadU(d, gate + i)), hn::LoadU(d, up + i)), d, out + i);
  }
  if (i < cols) {
    const VF v = hn::Mul(F::Of(LoadTailF32(gate + i, cols - i)), LoadTailF32(up + i, cols - i));
    StoreTailF32(v, out + i, cols - i);
  }
}

void ActivateRow(Activation activation, const float* gate, const float* up, int64_t cols,
                 float* out) {
  switch (activation) {
    case Activation::kSilu:
      return GateRow<Silu>(gate, up, cols, out);
    case Activation::kGeluTanh:
      return GateRow<GeluTanh>(gate, up, cols, out);
    case Activation::kGeluErf:
      return GateRow<GeluErf>(gate, up, cols, out);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace ccoe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ccoe::kernels {

HWY_EXPORT(ActivateRow);

ActivateRowFunction CpuActivateRow() { return HWY_DYNAMIC_DISPATCH(ActivateRow); }

void CpuGatedActivation(ThreadTeam* team, Activation activation, ConstMatrix gate, ConstMatrix up,
                        Matrix out) {
  CCOE_CHECK(gate.dtype == DType::kF32 && up.dtype == DType::kF32 && out.dtype == DType::kF32);
  CCOE_CHECK(gate.rows == out.rows && up.rows == out.rows && gate.cols == out.cols &&
             up.cols == out.cols);
  const auto activate = HWY_DYNAMIC_DISPATCH(ActivateRow);
  constexpr int64_t kCost = 4;  // an exponential against a copy
  ParallelRows(team, out.rows, kCost * out.cols, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      activate(activation, static_cast<const float*>(gate.Row(r)),
               static_cast<const float*>(up.Row(r)), out.cols, static_cast<float*>(out.Row(r)));
    }
  });
}

}  // namespace ccoe::kernels
#endif  // HWY_ONCE
