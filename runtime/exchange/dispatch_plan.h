// Rows of one batch grouped by destination (the expert, the worker): what to gather, what to send,
// where answers belong. Pure arithmetic over indices.
#ifndef CCOE_RUNTIME_EXCHANGE_DISPATCH_PLAN_H_
#define CCOE_RUNTIME_EXCHANGE_DISPATCH_PLAN_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace ccoe::exchange {

// One sequence of a batch. The rows of a batch are those of its sequences, sequence after sequence.
struct DispatchItem {
  int32_t destination = 0;    // 0 .. destinations - 1
  int64_t row_count = 0;      // > 0
  int64_t returned_rows = 0;  // 0 .. row_count: the last ones come back
};

// The rows of one destination, in the batch's order.
struct DispatchGroup {
  std::vector<int32_t> sequences;  // indices of the items
  std::vector<int32_t> rows;       // the batch's row behind each row sent (Ops::GatherRows)
  std::vector<int32_t>
      returned_rows;  // the batch's row behind each row that comes back (Ops::ScatterRows)
  std::vector<int64_t>
      row_offsets;  // rows of sequences[i]: [row_offsets[i], row_offsets[i + 1]) of `rows`
  std::vector<int64_t>
      returned_offsets;  // likewise in `returned_rows`; sequences.size() + 1 entries
};

struct DispatchPlan {
  std::vector<DispatchGroup> groups;  // [destinations], possibly empty ones
  std::vector<int64_t>
      group_offsets;  // [destinations + 1] first row of each group, were all groups laid end to end
  std::vector<int32_t> inverse;  // [rows of the batch] where each row stands in that layout
};

// `destinations` >= 0. Linear in the number of rows.
DispatchPlan PlanDispatch(absl::Span<const DispatchItem> items, int32_t destinations);

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_DISPATCH_PLAN_H_
