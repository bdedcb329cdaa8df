// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/moe_ffn.h"

#include <cstdint>
#include <vector>

#include "kernels/cpu/grouped_ffn.h"
#include "kernels/cpu/rows.h"
#include "runtime/base/check.h"

namespace ccoe::kernels {
namespace {

// The pairs of a choice, slots that are not taken left out.
struct Pairs {
  std::vector<int32_t> offsets;  // [rows + 1]: row r's are [offsets[r], offsets[r + 1])
  std::vector<int64_t> ends;     // [experts]: in order of expert, where those of each end
};

Pairs Count(const MoeFfnArgs& args) {
  Pairs pairs;
  pairs.ends.resize(args.experts.size());
  pairs.offsets.reserve(static_cast<size_t>(args.x.rows) + 1);
  pairs.offsets.push_back(0);
  const int32_t* chosen = args.chosen;
  for (int64_t row = 0; row < args.x.rows; ++row, chosen += args.top_k) {
    int32_t count = 0;
    for (; count < args.top_k && chosen[count] >= 0; ++count) {
      CCOE_CHECK(static_cast<size_t>(chosen[count]) < args.experts.size());
      ++pairs.ends[static_cast<size_t>(chosen[count])];
    }
    pairs.offsets.push_back(pairs.offsets.back() + count);
  }
  for (size_t e = 1; e < pairs.ends.size(); ++e) pairs.ends[e] += pairs.ends[e - 1];
  return pairs;
}

// What GroupedFfn takes: pairs by expert, then row; each goes to its place among all pairs.
struct SortedPairs {
  std::vector<ExpertGroup> groups;
  std::vector<int32_t> x_rows, out_rows;
  std::vector<float> weights;
};

SortedPairs Sort(const MoeFfnArgs& args, const Pairs& pairs) {
  SortedPairs sorted;
  std::vector<int64_t> next(args.experts.size());
  for (size_t e = 0; e < next.size(); ++e) {
    next[e] = e == 0 ? 0 : pairs.ends[e - 1];
    const int64_t count = pairs.ends[e] - next[e];
    if (count == 0) continue;
    const ExpertMatrices& expert = args.experts[e];
    sorted.groups.push_back({expert.gate, expert.up, expert.down, next[e], count});
  }
  const auto count = static_cast<size_t>(pairs.offsets.back());
  sorted.x_rows.resize(count);
  sorted.out_rows.resize(count);
  sorted.weights.resize(count);
  for (int64_t row = 0; row < args.x.rows; ++row) {
    const int64_t slot = row * args.top_k - pairs.offsets[static_cast<size_t>(row)];
    for (int32_t i = pairs.offsets[static_cast<size_t>(row)];
         i < pairs.offsets[static_cast<size_t>(row) + 1]; ++i) {
      const auto to = static_cast<size_t>(next[static_cast<size_t>(args.chosen[slot + i])]++);
      sorted.x_rows[to] = static_cast<int32_t>(row);
      sorted.out_rows[to] = i;
      sorted.weights[to] = args.weights[slot + i];
    }
  }
  return sorted;
}

}  // namespace

void CpuMoeFfn(ThreadTeam* team, Scratch* packed, const MoeFfnArgs& args) {
  CCOE_CHECK(args.top_k > 0 && args.out.rows == args.x.rows);
  CCOE_CHECK(args.contributions.rows >= args.x.rows * args.top_k);
  if (args.x.rows == 0) return;
  const Pairs pairs = Count(args);
  const SortedPairs sorted = Sort(args, pairs);
  GroupedFfnArgs grouped;
  grouped.x = args.x;
  grouped.groups = sorted.groups;
  grouped.activation = args.activation;
  grouped.x_rows = sorted.x_rows;
  grouped.out_rows = sorted.out_rows;
  grouped.weights = sorted.weights;
  grouped.out = args.contributions;
  CpuGroupedFfn(team, packed, grouped);
  CpuCombineRows(team, {args.contributions, pairs.offsets, args.out});
}

}  // namespace ccoe::kernels
