#include "runtime/experts/swap_target.h"

#include <utility>

#include "runtime/exchange/row_memory.h"

namespace ccoe::experts {
namespace {

SwapTarget TargetOf(const WaitingSwap& swap, int64_t hidden_size) {
  SwapTarget target;
  const int64_t returned = swap.header.returned_rows();
  if (swap.rows.on_device() && returned > 0) {
    auto fresh = swap.rows.memory()->Take(returned, hidden_size, swap.header.wire_dtype);
    if (fresh.ok()) {
      target.device_rows = fresh->rows;
      target.result.device_rows = std::move(fresh->block);
      return target;
    }
  }
  target.result.rows.resize(static_cast<size_t>(returned * hidden_size));
  return target;
}

}  // namespace

std::vector<SwapTarget> TargetsOf(absl::Span<const WaitingSwap> swaps, int64_t hidden_size) {
  std::vector<SwapTarget> targets;
  targets.reserve(swaps.size());
  for (const WaitingSwap& swap : swaps) targets.push_back(TargetOf(swap, hidden_size));
  return targets;
}

std::vector<exchange::SwapResult> ResultsOf(std::vector<SwapTarget> targets,
                                            absl::Duration expert_time) {
  std::vector<exchange::SwapResult> results;
  results.reserve(targets.size());
  for (SwapTarget& target : targets) {
    target.result.expert_time = expert_time;
    results.push_back(std::move(target.result));
  }
  return results;
}

}  // namespace ccoe::experts
