// SPDX-License-Identifier: Apache-2.0
// Cuts element-wise work over rows into tasks worth a thread's while.
#ifndef CCOE_KERNELS_CPU_PARALLEL_ROWS_H_
#define CCOE_KERNELS_CPU_PARALLEL_ROWS_H_

#include <algorithm>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "runtime/base/parallel.h"

namespace ccoe::kernels {

// Calls body(begin, end) for disjoint ranges that cover [0, rows). `row_cost` is the work of a row
// in elements; ranges below about 32 k elements are not split, since waking a thread costs as much.
inline void ParallelRows(ThreadTeam* team, int64_t rows, int64_t row_cost,
                         absl::FunctionRef<void(int64_t begin, int64_t end)> body) {
  constexpr int64_t kMinCost = 32 * 1024;
  constexpr int64_t kTasksPerThread = 4;
  if (rows <= 0) return;
  const int64_t by_cost = std::max<int64_t>(1, rows * std::max<int64_t>(1, row_cost) / kMinCost);
  const int64_t tasks = std::min({rows, by_cost, kTasksPerThread * team->size()});
  team->Run(tasks, [&](int64_t task) { body(rows * task / tasks, rows * (task + 1) / tasks); });
}

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CPU_PARALLEL_ROWS_H_
