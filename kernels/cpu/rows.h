// SPDX-License-Identifier: Apache-2.0
// Row copies with widening and narrowing, and element-wise sums, scalings and bounds on the CPU.
#ifndef CCOE_KERNELS_CPU_ROWS_H_
#define CCOE_KERNELS_CPU_ROWS_H_

#include <cstdint>

#include "absl/types/span.h"
#include "kernels/moe.h"
#include "kernels/view.h"
#include "runtime/base/parallel.h"

namespace ccoe::kernels {

// See the Ops methods of the same names.
void CpuEmbedRows(ThreadTeam* team, ConstMatrix table, absl::Span<const int32_t> ids, float scale,
                  Matrix out);
void CpuAddRows(ThreadTeam* team, ConstMatrix x, Matrix sum);
void CpuScaleRows(ThreadTeam* team, float scale, float soft_cap, Matrix x);
void CpuScaleRowsBySigmoid(ThreadTeam* team, ConstMatrix gate, Matrix x);
void CpuClampRows(ThreadTeam* team, float limit, Matrix x);
void CpuCombineRows(ThreadTeam* team, const CombineRowsArgs& args);
void CpuGatherRows(ThreadTeam* team, ConstMatrix x, absl::Span<const int32_t> rows, Matrix out);
void CpuScatterRows(ThreadTeam* team, ConstMatrix x, absl::Span<const int32_t> rows, Matrix out);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CPU_ROWS_H_
