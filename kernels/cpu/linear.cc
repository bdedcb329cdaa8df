// SPDX-License-Identifier: Apache-2.0
// x is packed once, then the columns of all parts and the rows are cut into tasks of one loop. In
// which order an element is summed: linear-inl.h.
#include "kernels/cpu/linear.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "runtime/base/check.h"

// The order of these matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/linear-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace ccoe::kernels {
namespace HWY_NAMESPACE {

// How the columns of all parts and the rows are cut into tasks.
struct Plan {
  int64_t task_cols = 0;   // a multiple of kTileCols
  int64_t row_blocks = 1;  // over panels
};

Plan MakePlan(const ThreadTeam& team, const PackedX& x, absl::Span<const LinearPart* const> parts) {
  Plan plan;
  plan.row_blocks = std::min(x.panels, CeilDiv(x.rows * x.units * kUnit, kBlockFloats));
  int64_t cols = 0;
  for (const LinearPart* part : parts) cols += part->weight.rows;
  const int64_t by_threads = cols * plan.row_blocks / (kTasksPerThread * team.size());
  const int64_t row_work = x.units * kUnit * CeilDiv(x.rows, plan.row_blocks);
  const int64_t least = CeilDiv(kMinTaskWork, row_work);
  plan.task_cols = CeilDiv(std::max<int64_t>({by_threads, least, 1}), kTileCols) * kTileCols;
  return plan;
}

void RunTask(const PackedX& x, absl::Span<const LinearPart* const> parts, const Plan& plan,
             int64_t task) {
  const int64_t row_block = task % plan.row_blocks;
  int64_t col_block = task / plan.row_blocks;
  for (const LinearPart* part : parts) {
    const int64_t col_blocks = CeilDiv(part->weight.rows, plan.task_cols);
    if (col_block >= col_blocks) {
      col_block -= col_blocks;
      continue;
    }
    Block block;
    block.panel_begin = x.panels * row_block / plan.row_blocks;
    block.panel_end = x.panels * (row_block + 1) / plan.row_blocks;
    block.col_begin = col_block * plan.task_cols;
    block.col_end = std::min(block.col_begin + plan.task_cols, part->weight.rows);
    block.fetch_end = block.col_end;
    MatrixProduct product;
    product.weight = part->weight;
    product.bias = part->bias;
    product.out = static_cast<float*>(part->out.data);
    product.stride = part->out.stride;
    product.accumulate = part->accumulate;
    return RunBlock(x, product, block);
  }
}

void PackX(ThreadTeam* team, const ConstMatrix& x, const PackedX& packed) {
  const int64_t tasks =
      x.rows * x.cols < kMinPackedApart ? 1 : std::min<int64_t>(packed.panels, 4 * team->size());
  team->Run(tasks, [&](int64_t task) {
    const int64_t end = packed.panels * (task + 1) / tasks;
    for (int64_t panel = packed.panels * task / tasks; panel < end; ++panel)
      PackPanel(x, /*rows=*/nullptr, packed, panel);
  });
}

// The parts whose weights want x in this order.
void RunParts(ThreadTeam* team, Scratch* scratch, const ConstMatrix& x,
              absl::Span<const LinearPart> parts, bool paired) {
  std::vector<const LinearPart*> chosen;
  for (const LinearPart& part : parts) {
    if ((part.weight.dtype == DType::kBF16) == paired && part.weight.rows > 0)
      chosen.push_back(&part);
  }
  if (chosen.empty()) return;
  PackedX packed(x.rows, x.cols, chosen[0]->weight.dtype);
  packed.data = scratch->Floats(packed.Floats());
  PackX(team, x, packed);
  const Plan plan = MakePlan(*team, packed, chosen);
  int64_t col_blocks = 0;
  for (const LinearPart* part : chosen) col_blocks += CeilDiv(part->weight.rows, plan.task_cols);
  team->Run(col_blocks * plan.row_blocks,
            [&](int64_t task) { RunTask(packed, chosen, plan, task); });
}

void LinearImpl(ThreadTeam* team, Scratch* scratch, const ConstMatrix& x,
                absl::Span<const LinearPart> parts) {
  RunParts(team, scratch, x, parts, /*paired=*/false);
  RunParts(team, scratch, x, parts, /*paired=*/true);
}

}  // namespace HWY_NAMESPACE
}  // namespace ccoe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ccoe::kernels {

HWY_EXPORT(LinearImpl);

void CpuLinear(ThreadTeam* team, Scratch* packed, ConstMatrix x,
               absl::Span<const LinearPart> parts) {
  CCOE_CHECK(x.dtype == DType::kF32);
  for (const LinearPart& part : parts) {
    CCOE_CHECK(IsFloat(part.weight.dtype));
    CCOE_CHECK(part.weight.cols == x.cols);
    CCOE_CHECK(part.out.dtype == DType::kF32 && part.out.rows == x.rows &&
               part.out.cols == part.weight.rows);
    CCOE_CHECK(part.bias.empty() ||
               (IsFloat(part.bias.dtype) && part.bias.cols == part.weight.rows));
  }
  if (x.rows == 0 || x.cols == 0) return;
  HWY_DYNAMIC_DISPATCH(LinearImpl)(team, packed, x, parts);
}

}  // namespace ccoe::kernels
#endif  // HWY_ONCE
