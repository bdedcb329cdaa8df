// Su et al. 2021, arXiv 2104.09864. Element-wise, so plain loops that the compiler vectorises for
// each Highway target.
#include "kernels/cpu/rope_kv.h"

#include <cstdint>
#include <cstring>

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

void CheckShapes(const RopeAndAppendKvArgs& args) {
  const KvLayer& cache = args.cache;
  const int64_t rows = args.q.rows;
  CCOE_CHECK(args.q.dtype == DType::kF32 && args.k.dtype == DType::kF32);
  CCOE_CHECK(args.v.empty() == (cache.v == cache.k));
  CCOE_CHECK(args.v.empty() ||
             (args.v.dtype == DType::kF32 && args.v.rows == rows && args.v.cols == args.k.cols));
  CCOE_CHECK(args.cos.dtype == DType::kF32 && args.sin.dtype == DType::kF32 &&
             cache.dtype == DType::kF32);
  CCOE_CHECK(args.k.rows == rows && static_cast<int64_t>(args.slots.size()) == rows);
  CCOE_CHECK(args.cos.rows == rows && args.sin.rows == rows && args.sin.cols == args.cos.cols);
  CCOE_CHECK(cache.head_dim > 0 && args.q.cols % cache.head_dim == 0);
  CCOE_CHECK(args.k.cols == cache.kv_heads * cache.head_dim);
  CCOE_CHECK(2 * args.cos.cols <= cache.head_dim);
  for (int64_t slot : args.slots) CCOE_CHECK(slot >= 0 && slot < cache.pages * cache.page_tokens);
}

}  // namespace

void CpuRopeAndAppendKv(ThreadTeam* team, const RopeAndAppendKvArgs& args) {
  CheckShapes(args);
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
