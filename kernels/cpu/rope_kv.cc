// SPDX-License-Identifier: Apache-2.0
// Su et al. 2021, arXiv 2104.09864. Element-wise, so plain loops; the compiler vectorises those
// that rotate for each Highway target.
#include "kernels/cpu/rope_kv.h"

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/check_shapes.h"
#include "kernels/cpu/parallel_rows.h"
#include "runtime/base/check.h"

// The order of these matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rope_kv.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace ccoe::kernels {
namespace HWY_NAMESPACE {

void RotateHalfSplit(const float* HWY_RESTRICT cos, const float* HWY_RESTRICT sin, int64_t pairs,
                     float* HWY_RESTRICT low, float* HWY_RESTRICT high) {
  for (int64_t i = 0; i < pairs; ++i) {
    const float a = low[i], b = high[i];
    low[i] = a * cos[i] - b * sin[i];
    high[i] = b * cos[i] + a * sin[i];
  }
}

void RotateInterleaved(const float* HWY_RESTRICT cos, const float* HWY_RESTRICT sin, int64_t pairs,
                       float* HWY_RESTRICT x) {
  for (int64_t i = 0; i < pairs; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * cos[i] - b * sin[i];
    x[2 * i + 1] = b * cos[i] + a * sin[i];
  }
}

void RotateRow(const RopeAndAppendKvArgs& args, int64_t row, const Matrix& x) {
  const float* cos = static_cast<const float*>(args.cos.Row(row));
  const float* sin = static_cast<const float*>(args.sin.Row(row));
  const int64_t pairs = args.cos.cols;
  float* begin = static_cast<float*>(x.Row(row));
  for (float* head = begin; head < begin + x.cols; head += args.cache.head_dim) {
    if (args.style == RopeStyle::kHalfSplit) {
      RotateHalfSplit(cos, sin, pairs, head, head + pairs);
    } else {
      RotateInterleaved(cos, sin, pairs, head);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace ccoe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ccoe::kernels {
namespace {

HWY_EXPORT(RotateRow);

void AppendRow(const RopeAndAppendKvArgs& args, int64_t row) {
  const KvLayer& cache = args.cache;
  const int64_t page = args.slots[row] / cache.page_tokens;
  const int64_t in_page = args.slots[row] % cache.page_tokens;
  const float* k = static_cast<const float*>(args.k.Row(row));
  const bool keys_only = args.v.empty();
  const float* v = keys_only ? nullptr : static_cast<const float*>(args.v.Row(row));
  for (int64_t head = 0; head < cache.kv_heads; ++head) {
    const int64_t at =
        ((page * cache.kv_heads + head) * cache.page_tokens + in_page) * cache.head_dim;
    std::memcpy(static_cast<float*>(cache.k) + at, k + head * cache.head_dim,
                cache.head_dim * sizeof(float));
    if (keys_only) continue;
    std::memcpy(static_cast<float*>(cache.v) + at, v + head * cache.head_dim,
                cache.head_dim * sizeof(float));
  }
}

}  // namespace

void CpuRopeAngles(ThreadTeam* team, const RopeAnglesArgs& args) {
  CheckShapes(args);
  constexpr int64_t kCost = 32;  // a cosine and a sine, against a copy
  const int64_t pairs = args.cos.cols;
  ParallelRows(team, args.cos.rows, kCost * pairs, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      float* cos = static_cast<float*>(args.cos.Row(row));
      float* sin = static_cast<float*>(args.sin.Row(row));
      for (int64_t i = 0; i < pairs; ++i) {
        const float angle = static_cast<float>(args.positions[row]) * args.frequencies[i];
        cos[i] = args.magnitude * static_cast<float>(std::cos(static_cast<double>(angle)));
        sin[i] = args.magnitude * static_cast<float>(std::sin(static_cast<double>(angle)));
      }
    }
  });
}

void CpuRopeAndAppendKv(ThreadTeam* team, const RopeAndAppendKvArgs& args) {
  CheckShapes(args);
  CCOE_CHECK(args.cache.dtype == DType::kF32);
  const auto rotate = HWY_DYNAMIC_DISPATCH(RotateRow);
  ParallelRows(team, args.q.rows, args.q.cols + 2 * args.k.cols, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      rotate(args, row, args.q);
      rotate(args, row, args.k);
      AppendRow(args, row);
    }
  });
}

}  // namespace ccoe::kernels
#endif  // HWY_ONCE
