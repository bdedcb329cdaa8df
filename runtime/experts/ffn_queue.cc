#include "runtime/experts/ffn_queue.h"

#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

namespace ccoe::experts {

absl::Status FfnQueue::Push(WaitingSwap&& swap) {
  const int64_t rows = swap.header.rows();
  if (static_cast<int64_t>(swaps_.size()) >= options_.max_waiting_swaps ||
      (!swaps_.empty() && rows_ + rows > options_.max_waiting_rows)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("step ", swap.header.step_id, ": ", swaps_.size(), " swaps of ", rows_,
                     " rows wait for the FFN experts, at most ", options_.max_waiting_swaps, " of ",
                     options_.max_waiting_rows, " rows"));
  }
  rows_ += rows;
  swaps_.push_back(std::move(swap));
  return absl::OkStatus();
}

WaitingSwap FfnQueue::TakeOut(std::list<WaitingSwap>::iterator swap) {
  WaitingSwap taken = std::move(*swap);
  swaps_.erase(swap);
  rows_ -= taken.header.rows();
  return taken;
}

std::vector<WaitingSwap> FfnQueue::Take() {
  std::vector<WaitingSwap> taken;
  absl::flat_hash_set<uint64_t> passed_over;  // peers whose later swaps must not overtake
  int64_t pairs = 0;
  for (auto it = swaps_.begin(); it != swaps_.end();) {
    const auto swap = it++;
    const exchange::FfnDispatch& ffn = *swap->header.ffn;
    const bool joins = taken.empty() || (ffn.layer == taken.front().header.ffn->layer &&
                                         pairs + ffn.pairs() <= options_.max_batch_pairs &&
                                         !passed_over.contains(swap->peer_id));
    if (!joins) {
      passed_over.insert(swap->peer_id);
      continue;
    }
    pairs += ffn.pairs();
    taken.push_back(TakeOut(swap));
  }
  return taken;
}

std::vector<WaitingSwap> FfnQueue::RemovePeer(uint64_t peer_id) {
  std::vector<WaitingSwap> removed;
  for (auto it = swaps_.begin(); it != swaps_.end();) {
    const auto swap = it++;
    if (swap->peer_id == peer_id) removed.push_back(TakeOut(swap));
  }
  return removed;
}

std::vector<WaitingSwap> FfnQueue::RemoveAll() {
  std::vector<WaitingSwap> removed;
  while (!swaps_.empty()) removed.push_back(TakeOut(swaps_.begin()));
  return removed;
}

}  // namespace ccoe::experts
