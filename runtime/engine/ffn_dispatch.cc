// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/ffn_dispatch.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace ccoe::engine {
namespace {

constexpr int32_t kNowhere = -2;

// The holder of `expert` that gets its pairs.
int32_t ChooseHolder(absl::Span<const int32_t> holders, const std::vector<bool>& usable,
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

// By expert: where its pairs go, kNowhere for experts that do not occur too.
std::vector<int32_t> ChooseHolders(const model::RoutedRows& routed, absl::Span<const int32_t> pairs,
                                   const FfnTable& table, const std::vector<bool>& usable,
                                   const FfnDispatchOptions& options) {
  int32_t last = -1;
  for (const int32_t pair : pairs) last = std::max(last, routed.experts[static_cast<size_t>(pair)]);
  std::vector<int64_t> counts(static_cast<size_t>(last) + 1, 0);
  for (const int32_t pair : pairs) ++counts[routed.experts[static_cast<size_t>(pair)]];
  std::vector<std::pair<int64_t, int32_t>> by_count;  // negative count, expert
  for (int32_t expert = 0; expert <= last; ++expert) {
    if (counts[expert] > 0) by_count.emplace_back(-counts[expert], expert);
  }
  std::sort(by_count.begin(), by_count.end());
  std::vector<int64_t> load(table.peers.size(), 0);
  std::vector<int32_t> chosen(counts.size(), kNowhere);
  for (const auto& [negative, expert] : by_count) {
    const int32_t holder =
        ChooseHolder(table.HoldersOf(routed.layer, expert), usable, load, options);
    if (holder >= 0) load[static_cast<size_t>(holder)] -= negative;
    chosen[expert] = holder;
  }
  return chosen;
}

// Parts under construction; for each peer (kHere first) the one that takes more.
class PartBuilder {
 public:
  PartBuilder(size_t peers, int64_t max_pairs) : open_(peers + 1, kNone), max_pairs_(max_pairs) {}

  FfnPart& For(int32_t peer) {
    int32_t& open = open_[static_cast<size_t>(peer + 1)];
    if (open != kNone) {
      FfnPart& part = parts_[static_cast<size_t>(open)];
      if (peer == FfnTable::kHere || part.swap.pairs() < max_pairs_) return part;
    }
    open = static_cast<int32_t>(parts_.size());
    parts_.emplace_back().peer = peer;
    return parts_.back();
  }
  std::vector<FfnPart> Take() { return std::move(parts_); }

 private:
  static constexpr int32_t kNone = -1;

  std::vector<int32_t> open_;  // by peer + 1: index into parts_
  const int64_t max_pairs_;
  std::vector<FfnPart> parts_;
};

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
  exchange::FfnSwap& dispatch = part.swap;
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
  const std::vector<int32_t> holders = ChooseHolders(routed, pairs, table, usable, options);
  const std::vector<int32_t> row_of = RowOfPairs(routed);
  FfnDispatchPlan plan;
  PartBuilder parts(table.peers.size(), options.max_part_pairs);
  for (const int32_t pair : pairs) {
    const int32_t holder = holders[routed.experts[static_cast<size_t>(pair)]];
    if (holder == kNowhere) {
      plan.lost.push_back(pair);
      continue;
    }
    AddPair(pair, row_of[static_cast<size_t>(pair)], routed, parts.For(holder));
  }
  plan.parts = parts.Take();
  for (FfnPart& part : plan.parts) {
    part.swap.layer = routed.layer;
    part.swap.combine = options.combine;
  }
  return plan;
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
