// SPDX-License-Identifier: Apache-2.0
// Plain loops over elements: the compiler vectorises them for each Highway target.
#include "kernels/cpu/rows.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/half.h"
#include "kernels/cpu/parallel_rows.h"
#include "runtime/base/check.h"

// The order of these matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rows.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "hwy/contrib/math/math-inl.h"
#include "kernels/cpu/simd-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace ccoe::kernels {
namespace HWY_NAMESPACE {

template <class From, class To>
void ConvertElements(const From* HWY_RESTRICT from, int64_t count, To* HWY_RESTRICT to) {
  for (int64_t i = 0; i < count; ++i) FromF32(ToF32(from[i]), &to[i]);
}

template <class From>
void ConvertFrom(const From* from, int64_t count, DType dtype, void* to) {
  switch (dtype) {
    case DType::kF16:
      return ConvertElements(from, count, static_cast<F16*>(to));
    case DType::kBF16:
      return ConvertElements(from, count, static_cast<BF16*>(to));
    default:
      return ConvertElements(from, count, static_cast<float*>(to));
  }
}

// Copies one row, converting where the dtypes differ.
void CopyRow(const void* from, DType from_dtype, int64_t count, DType to_dtype, void* to) {
  if (from_dtype == to_dtype) {
    std::memcpy(to, from, count * DTypeBytes(to_dtype));
    return;
  }
  switch (from_dtype) {
    case DType::kF16:
      return ConvertFrom(static_cast<const F16*>(from), count, to_dtype, to);
    case DType::kBF16:
      return ConvertFrom(static_cast<const BF16*>(from), count, to_dtype, to);
    default:
      return ConvertFrom(static_cast<const float*>(from), count, to_dtype, to);
  }
}

void ScaleRow(float scale, int64_t count, float* HWY_RESTRICT x) {
  for (int64_t i = 0; i < count; ++i) x[i] *= scale;
}

void AddRow(const float* HWY_RESTRICT x, int64_t count, float* HWY_RESTRICT sum) {
  for (int64_t i = 0; i < count; ++i) sum[i] += x[i];
}

// A value that is not a number stays one.
void ClampRow(float limit, int64_t count, float* HWY_RESTRICT x) {
  for (int64_t i = 0; i < count; ++i) {
    const float above = x[i] < -limit ? -limit : x[i];
    x[i] = above > limit ? limit : above;
  }
}

void CapRow(float scale, float cap, int64_t count, float* HWY_RESTRICT x) {
  const DF d;
  const VF scale_v = hn::Set(d, scale), cap_v = hn::Set(d, cap), inverse = hn::Set(d, 1.0f / cap);
  auto capped = [&](VF v) HWY_ATTR {
    return hn::Mul(cap_v, hn::Tanh(d, hn::Mul(hn::Mul(v, scale_v), inverse)));
  };
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) hn::StoreU(capped(hn::LoadU(d, x + i)), d, x + i);
  if (i < count) StoreTailF32(capped(LoadTailF32(x + i, count - i)), x + i, count - i);
}

}  // namespace HWY_NAMESPACE
}  // namespace ccoe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ccoe::kernels {
namespace {

HWY_EXPORT(CopyRow);
HWY_EXPORT(ScaleRow);
HWY_EXPORT(AddRow);
HWY_EXPORT(CapRow);
HWY_EXPORT(ClampRow);

float* F32Row(const Matrix& m, int64_t row) { return static_cast<float*>(m.Row(row)); }

}  // namespace

void CpuEmbedRows(ThreadTeam* team, ConstMatrix table, absl::Span<const int32_t> ids, float scale,
                  Matrix out) {
  CCOE_CHECK(IsFloat(table.dtype) && out.dtype == DType::kF32 && out.cols == table.cols);
  CCOE_CHECK(out.rows == static_cast<int64_t>(ids.size()));
  const auto copy = HWY_DYNAMIC_DISPATCH(CopyRow);
  const auto multiply = HWY_DYNAMIC_DISPATCH(ScaleRow);
  ParallelRows(team, out.rows, out.cols, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      CCOE_CHECK(ids[r] >= 0 && ids[r] < table.rows);
      copy(table.Row(ids[r]), table.dtype, out.cols, DType::kF32, out.Row(r));
      if (scale != 1.0f) multiply(scale, out.cols, F32Row(out, r));
    }
  });
}

void CpuAddRows(ThreadTeam* team, ConstMatrix x, Matrix sum) {
  CCOE_CHECK(x.dtype == DType::kF32 && sum.dtype == DType::kF32 && x.rows == sum.rows &&
             x.cols == sum.cols);
  const auto add = HWY_DYNAMIC_DISPATCH(AddRow);
  ParallelRows(team, sum.rows, sum.cols, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      add(static_cast<const float*>(x.Row(r)), sum.cols, F32Row(sum, r));
  });
}

void CpuScaleRows(ThreadTeam* team, float scale, float soft_cap, Matrix x) {
  CCOE_CHECK(x.dtype == DType::kF32);
  if (scale == 1.0f && soft_cap <= 0.0f) return;
  const auto multiply = HWY_DYNAMIC_DISPATCH(ScaleRow);
  const auto cap = HWY_DYNAMIC_DISPATCH(CapRow);
  ParallelRows(team, x.rows, x.cols, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      if (soft_cap > 0.0f) {
        cap(scale, soft_cap, x.cols, F32Row(x, r));
      } else {
        multiply(scale, x.cols, F32Row(x, r));
      }
    }
  });
}

void CpuScaleRowsBySigmoid(ThreadTeam* team, ConstMatrix gate, Matrix x) {
  CCOE_CHECK(x.dtype == DType::kF32 && gate.dtype == DType::kF32);
  CCOE_CHECK(gate.rows == x.rows && gate.cols == 1);
  const auto multiply = HWY_DYNAMIC_DISPATCH(ScaleRow);
  ParallelRows(team, x.rows, x.cols, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float sigmoid = 1.0f / (1.0f + std::exp(-*static_cast<const float*>(gate.Row(r))));
      multiply(sigmoid, x.cols, F32Row(x, r));
    }
  });
}

void CpuClampRows(ThreadTeam* team, float limit, Matrix x) {
  CCOE_CHECK(x.dtype == DType::kF32 && limit > 0.0f);
  const auto clamp = HWY_DYNAMIC_DISPATCH(ClampRow);
  ParallelRows(team, x.rows, x.cols, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) clamp(limit, x.cols, F32Row(x, r));
  });
}

void CpuCombineRows(ThreadTeam* team, const CombineRowsArgs& args) {
  const Matrix& out = args.out;
  CCOE_CHECK(out.dtype == DType::kF32 && static_cast<int64_t>(args.offsets.size()) == out.rows + 1);
  CCOE_CHECK(args.offsets.front() == 0 && std::is_sorted(args.offsets.begin(), args.offsets.end()));
  const int64_t pairs = args.offsets.back();
  CCOE_CHECK(pairs == 0 ||
             (args.contributions.dtype == DType::kF32 && args.contributions.cols == out.cols &&
              args.contributions.rows >= pairs));
  if (out.rows == 0) return;
  const auto add = HWY_DYNAMIC_DISPATCH(AddRow);
  const int64_t row_cost = out.cols * (1 + pairs / out.rows);
  ParallelRows(team, out.rows, row_cost, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      std::fill_n(F32Row(out, r), out.cols, 0.0f);
      for (int64_t p = args.offsets[r]; p < args.offsets[r + 1]; ++p)
        add(static_cast<const float*>(args.contributions.Row(p)), out.cols, F32Row(out, r));
    }
  });
}

void CpuGatherRows(ThreadTeam* team, ConstMatrix x, absl::Span<const int32_t> rows, Matrix out) {
  CCOE_CHECK(x.cols == out.cols && out.rows == static_cast<int64_t>(rows.size()));
  CCOE_CHECK(x.dtype == out.dtype || (IsFloat(x.dtype) && IsFloat(out.dtype)));
  const auto copy = HWY_DYNAMIC_DISPATCH(CopyRow);
  ParallelRows(team, out.rows, out.cols, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      CCOE_CHECK(rows[r] >= 0 && rows[r] < x.rows);
      copy(x.Row(rows[r]), x.dtype, out.cols, out.dtype, out.Row(r));
    }
  });
}

void CpuScatterRows(ThreadTeam* team, ConstMatrix x, absl::Span<const int32_t> rows, Matrix out) {
  CCOE_CHECK(x.cols == out.cols && x.rows == static_cast<int64_t>(rows.size()));
  CCOE_CHECK(x.dtype == out.dtype || (IsFloat(x.dtype) && IsFloat(out.dtype)));
  const auto copy = HWY_DYNAMIC_DISPATCH(CopyRow);
  ParallelRows(team, x.rows, out.cols, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      CCOE_CHECK(rows[r] >= 0 && rows[r] < out.rows);
      copy(x.Row(r), x.dtype, out.cols, out.dtype, out.Row(rows[r]));
    }
  });
}

}  // namespace ccoe::kernels
#endif  // HWY_ONCE
