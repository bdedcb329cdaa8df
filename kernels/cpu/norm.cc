// SPDX-License-Identifier: Apache-2.0
// Zhang and Sennrich 2019, arXiv 1910.07467. The squares are summed in f32 in kAccumulators
// vectors, then by a fixed tree: an order that depends on the number of columns alone.
#include "kernels/cpu/norm.h"

#include <cmath>
#include <cstdint>

#include "kernels/cpu/parallel_rows.h"
#include "runtime/base/check.h"

// The order of these matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/norm.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace ccoe::kernels {
namespace HWY_NAMESPACE {

float SumOfSquares(const float* HWY_RESTRICT x, int64_t cols) {
  const DF d;
  VF s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  int64_t i = 0;
  for (; i + 4 * kLanes <= cols; i += 4 * kLanes) {
    const VF x0 = hn::LoadU(d, x + i), x1 = hn::LoadU(d, x + i + kLanes);
    const VF x2 = hn::LoadU(d, x + i + 2 * kLanes), x3 = hn::LoadU(d, x + i + 3 * kLanes);
    s0 = hn::MulAdd(x0, x0, s0);
    s1 = hn::MulAdd(x1, x1, s1);
    s2 = hn::MulAdd(x2, x2, s2);
    s3 = hn::MulAdd(x3, x3, s3);
  }
  for (; i + kLanes <= cols; i += kLanes) {
    const VF v = hn::LoadU(d, x + i);
    s0 = hn::MulAdd(v, v, s0);
  }
  if (i < cols) {
    const VF v = LoadTailF32(x + i, cols - i);
    s0 = hn::MulAdd(v, v, s0);
  }
  return SumLanes(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)));
}

// out = or (kAdd) out += the normalised row.
template <bool kAdd, class T>
void NormRow(const float* x, const T* HWY_RESTRICT weight, float eps, int64_t cols, float* out) {
  const DF d;
  const float inverse = 1.0f / std::sqrt(SumOfSquares(x, cols) / static_cast<float>(cols) + eps);
  const VF inverse_v = hn::Set(d, inverse);
  int64_t i = 0;
  for (; i + kLanes <= cols; i += kLanes) {
    const VF v = hn::Mul(hn::LoadU(d, x + i), inverse_v);
    const VF normed = hn::Mul(v, LoadF32(d, weight + i));
    hn::StoreU(kAdd ? hn::Add(hn::LoadU(d, out + i), normed) : normed, d, out + i);
  }
  for (; i < cols; ++i) {
    const float normed = x[i] * inverse * ToF32(weight[i]);
    out[i] = kAdd ? out[i] + normed : normed;
  }
}

template <bool kAdd>
void NormAnyRow(const float* x, const ConstMatrix& weight, float eps, float* out) {
  switch (weight.dtype) {
    case DType::kF16:
      return NormRow<kAdd>(x, static_cast<const F16*>(weight.data), eps, weight.cols, out);
    case DType::kBF16:
      return NormRow<kAdd>(x, static_cast<const BF16*>(weight.data), eps, weight.cols, out);
    default:
      return NormRow<kAdd>(x, static_cast<const float*>(weight.data), eps, weight.cols, out);
  }
}

void NormOneRow(const float* x, const ConstMatrix& weight, float eps, float* out) {
  NormAnyRow<false>(x, weight, eps, out);
}

void AddNormOfRow(const float* x, const ConstMatrix& weight, float eps, float* sum) {
  NormAnyRow<true>(x, weight, eps, sum);
}

}  // namespace HWY_NAMESPACE
}  // namespace ccoe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ccoe::kernels {

HWY_EXPORT(NormOneRow);
HWY_EXPORT(AddNormOfRow);

namespace {

using RowFunction = void (*)(const float* x, const ConstMatrix& weight, float eps, float* out);

void NormRows(ThreadTeam* team, RowFunction norm, ConstMatrix x, ConstMatrix weight, float eps,
              Matrix out) {
  CCOE_CHECK(x.dtype == DType::kF32 && out.dtype == DType::kF32);
  CCOE_CHECK(weight.dtype == DType::kF32 || weight.dtype == DType::kF16 ||
             weight.dtype == DType::kBF16);
  CCOE_CHECK(x.rows == out.rows && x.cols == out.cols && weight.cols == x.cols);
  ParallelRows(team, x.rows, x.cols, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      norm(static_cast<const float*>(x.Row(r)), weight, eps, static_cast<float*>(out.Row(r)));
    }
  });
}

}  // namespace

void CpuRmsNorm(ThreadTeam* team, ConstMatrix x, ConstMatrix weight, float eps, Matrix out) {
  NormRows(team, HWY_DYNAMIC_DISPATCH(NormOneRow), x, weight, eps, out);
}

void CpuAddRmsNorm(ThreadTeam* team, ConstMatrix x, ConstMatrix weight, float eps, Matrix sum) {
  NormRows(team, HWY_DYNAMIC_DISPATCH(AddNormOfRow), x, weight, eps, sum);
}

}  // namespace ccoe::kernels
#endif  // HWY_ONCE
