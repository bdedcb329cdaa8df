#include "runtime/exchange/dispatch_plan.h"

#include <cstddef>

#include "runtime/base/check.h"

namespace ccoe::exchange {
namespace {

void Append(const DispatchItem& item, int32_t sequence, int64_t first_row, DispatchGroup& group) {
  group.sequences.push_back(sequence);
  for (int64_t i = 0; i < item.row_count; ++i) {
    const int32_t row = static_cast<int32_t>(first_row + i);
    group.rows.push_back(row);
    if (i >= item.row_count - item.returned_rows) group.returned_rows.push_back(row);
  }
  group.row_offsets.push_back(static_cast<int64_t>(group.rows.size()));
  group.returned_offsets.push_back(static_cast<int64_t>(group.returned_rows.size()));
}

}  // namespace

DispatchPlan PlanDispatch(absl::Span<const DispatchItem> items, int32_t destinations) {
  CCOE_CHECK(destinations >= 0);
  DispatchPlan plan;
  plan.groups.resize(destinations);
  for (DispatchGroup& group : plan.groups) {
    group.row_offsets.push_back(0);
    group.returned_offsets.push_back(0);
  }
  int64_t row = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    const DispatchItem& item = items[i];
    CCOE_CHECK(item.destination >= 0 && item.destination < destinations);
    CCOE_CHECK(item.row_count > 0);
    CCOE_CHECK(item.returned_rows >= 0 && item.returned_rows <= item.row_count);
    Append(item, static_cast<int32_t>(i), row, plan.groups[item.destination]);
    row += item.row_count;
  }
  plan.inverse.resize(row);
  plan.group_offsets.push_back(0);
  for (const DispatchGroup& group : plan.groups) {
    int64_t offset = plan.group_offsets.back();
    for (const int32_t source : group.rows) plan.inverse[source] = static_cast<int32_t>(offset++);
    plan.group_offsets.push_back(offset);
  }
  return plan;
}

}  // namespace ccoe::exchange
