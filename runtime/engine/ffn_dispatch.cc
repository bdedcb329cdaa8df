#include "runtime/engine/ffn_dispatch.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

namespace ccoe::engine {
namespace {

constexpr int32_t kNowhere = -2;

using Holders = std::vector<std::vector<int32_t>>;

const std::vector<int32_t>& HoldersOf(const FfnTable& table, int32_t layer, int32_t expert) {
  static const std::vector<int32_t> kNone;
  if (static_cast<size_t>(layer) >= table.holders.size()) return kNone;
  const Holders& experts = table.holders[static_cast<size_t>(layer)];
  if (static_cast<size_t>(expert) >= experts.size()) return kNone;
  return experts[static_cast<size_t>(expert)];
}

// The holder of `expert` that gets its pairs.
int32_t ChooseHolder(const std::vector<int32_t>& holders, const std::vector<bool>& usable,
                     const std::vector<int64_t>& load, const FfnDispatchOptions& options) {
  int32_t best = kNowhere;
  for (size_t i = 0; i < holders.size(); ++i) {
    const int32_t holder = holders[(i + options.turn) % holders.size()];
    if (holder == FfnTable::kHere) {
      if (options.here) return holder;
      continue;
    }
    if (!usable[static_cast<size_t>(holder)]) continue;
    if (best == kNowhere || load[static_cast<size_t>(holder)] < load[static_cast<size_t>(best)]) {
      best = holder;
    }
  }
  return best;
}

// Where each expert that occurs goes.
std::map<int32_t, int32_t> ChooseHolders(const model::RoutedRows& routed,
                                         absl::Span<const int32_t> pairs, const FfnTable& table,
                                         const std::vector<bool>& usable,
                                         const FfnDispatchOptions& options) {
  std::map<int32_t, int64_t> counts;
  for (const int32_t pair : pairs) ++counts[routed.experts[static_cast<size_t>(pair)]];
  std::vector<std::pair<int64_t, int32_t>> by_count;  // negative count, expert
  for (const auto& [expert, count] : counts) by_count.emplace_back(-count, expert);
  std::sort(by_count.begin(), by_count.end());
  std::vector<int64_t> load(table.peers.size(), 0);
  std::map<int32_t, int32_t> chosen;
  for (const auto& [negative, expert] : by_count) {
    const int32_t holder =
        ChooseHolder(HoldersOf(table, routed.layer, expert), usable, load, options);
    if (holder >= 0) load[static_cast<size_t>(holder)] -= negative;
    chosen[expert] = holder;
  }
  return chosen;
}

FfnPart& PartFor(int32_t peer, int64_t max_pairs, std::map<int32_t, size_t>& open,
                 std::vector<FfnPart>& parts) {
  const auto found = open.find(peer);
  if (found != open.end()) {
    FfnPart& part = parts[found->second];
    if (peer == FfnTable::kHere || part.dispatch.pairs() < max_pairs) return part;
  }
  open[peer] = parts.size();
  parts.emplace_back().peer = peer;
  return parts.back();
}

// The row of each pair.
std::vector<int32_t> RowOfPairs(const model::RoutedRows& routed) {
  std::vector<int32_t> rows(routed.experts.size());
  for (size_t row = 0; row + 1 < routed.offsets.size(); ++row) {
    std::fill(rows.begin() + routed.offsets[row], rows.begin() + routed.offsets[row + 1],
              static_cast<int32_t>(row));
  }
  return rows;
}

void AddPair(int32_t pair, int32_t row, const model::RoutedRows& routed, FfnPart& part) {
  exchange::FfnDispatch& dispatch = part.dispatch;
  if (part.rows.empty() || part.rows.back() != row) {
    if (part.rows.empty()) dispatch.offsets = {0};
    part.rows.push_back(row);
    dispatch.offsets.push_back(dispatch.offsets.back());
  }
  ++dispatch.offsets.back();
  dispatch.experts.push_back(routed.experts[static_cast<size_t>(pair)]);
  dispatch.weights.push_back(routed.weights[static_cast<size_t>(pair)]);
  part.pairs.push_back(pair);
}

}  // namespace

FfnDispatchPlan PlanFfnDispatch(const model::RoutedRows& routed, absl::Span<const int32_t> pairs,
                                const FfnTable& table, const std::vector<bool>& usable,
                                const FfnDispatchOptions& options) {
  const std::map<int32_t, int32_t> holders = ChooseHolders(routed, pairs, table, usable, options);
  const std::vector<int32_t> row_of = RowOfPairs(routed);
  FfnDispatchPlan plan;
  std::map<int32_t, size_t> open;  // the part of a peer that takes more
  for (const int32_t pair : pairs) {
    const int32_t holder = holders.at(routed.experts[static_cast<size_t>(pair)]);
    if (holder == kNowhere) {
      plan.lost.push_back(pair);
      continue;
    }
    FfnPart& part = PartFor(holder, options.max_part_pairs, open, plan.parts);
    AddPair(pair, row_of[static_cast<size_t>(pair)], routed, part);
  }
  for (FfnPart& part : plan.parts) {
    part.dispatch.layer = routed.layer;
    part.dispatch.combine = options.combine;
  }
  return plan;
}

std::vector<float> RowsOfPart(const FfnPart& part, absl::Span<const float> rows, int64_t width) {
  std::vector<float> out;
  out.reserve(part.rows.size() * static_cast<size_t>(width));
  for (const int32_t row : part.rows) {
    const float* begin = rows.data() + row * width;
    out.insert(out.end(), begin, begin + width);
  }
  return out;
}

CombineOrder OrderOf(const model::RoutedRows& routed, absl::Span<const FfnPart* const> parts,
                     bool combine) {
  CombineOrder order;
  if (!combine) {
    order.offsets = routed.offsets;
    for (const FfnPart* part : parts) order.places.push_back(part->pairs);
    return order;
  }
  order.offsets.assign(routed.offsets.size(), 0);
  for (const FfnPart* part : parts) {
    for (const int32_t row : part->rows) ++order.offsets[static_cast<size_t>(row) + 1];
  }
  std::partial_sum(order.offsets.begin(), order.offsets.end(), order.offsets.begin());
  std::vector<int32_t> next = order.offsets;
  for (const FfnPart* part : parts) {
    std::vector<int32_t>& places = order.places.emplace_back();
    for (const int32_t row : part->rows) places.push_back(next[static_cast<size_t>(row)]++);
  }
  return order;
}

}  // namespace ccoe::engine
