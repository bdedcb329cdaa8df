#include "runtime/experts/swap_queue.h"

#include "absl/strings/str_cat.h"

namespace ccoe::experts {

absl::Status CheckRows(const WaitingSwap& swap, int64_t hidden_size,
                       const kernels::Device& device) {
  const int64_t values = swap.header.rows() * hidden_size;
  if (swap.rows.values() != values) {
    return absl::InvalidArgumentError(absl::StrCat("rows of step ", swap.header.step_id,
                                                   ": expected ", values, " values, found ",
                                                   swap.rows.values()));
  }
  if (!swap.rows.on_device() || swap.rows.memory()->device() == &device) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("rows of step ", swap.header.step_id,
                                                 ": expected in ", device.Name(), ", found in ",
                                                 swap.rows.memory()->device()->Name()));
}

// What Take has gathered so far.
struct SwapQueue::Selection {
  Pass pass;
  int64_t rows = 0;
  absl::flat_hash_set<SequenceKey> taken;  // sequences of the pass
  absl::flat_hash_set<SequenceKey>
      passed_over;  // sequences of items that stay: later ones must not overtake them
  absl::flat_hash_set<uint64_t> peers_passed_over;  // with a swap for the same expert that stays

  void PassOver(const WaitingSwap& swap) {
    for (const exchange::SwapSequence& sequence : swap.header.sequences) {
      passed_over.insert({swap.peer_id, sequence.sequence_id});
    }
    if (swap.header.expert == pass.swaps.front().header.expert)
      peers_passed_over.insert(swap.peer_id);
  }
};

absl::Status SwapQueue::Push(WaitingSwap&& swap) {
  const int64_t rows = swap.header.rows();
  if (swaps_ >= options_.max_waiting_swaps ||
      (swaps_ > 0 && rows_ + rows > options_.max_waiting_rows)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("step ", swap.header.step_id, ": ", swaps_, " swaps of ", rows_,
                     " rows wait for the experts, at most ", options_.max_waiting_swaps, " of ",
                     options_.max_waiting_rows, " rows"));
  }
  ++swaps_;
  rows_ += rows;
  items_.push_back({false, {}, std::move(swap)});
  return absl::OkStatus();
}

void SwapQueue::PushRelease(SequenceKey sequence) { items_.push_back({true, sequence, {}}); }

bool SwapQueue::Joins(const WaitingSwap& swap, const Selection& selection) const {
  if (selection.pass.swaps.empty()) return true;
  const WaitingSwap& first = selection.pass.swaps.front();
  if (!(swap.header.expert == first.header.expert)) return false;
  if (swap.header.capture_layers || first.header.capture_layers) return false;
  if (selection.rows + swap.header.rows() > options_.max_batch_rows) return false;
  if (selection.peers_passed_over.contains(swap.peer_id)) return false;
  for (const exchange::SwapSequence& sequence : swap.header.sequences) {
    const SequenceKey key = {swap.peer_id, sequence.sequence_id};
    if (selection.taken.contains(key) || selection.passed_over.contains(key)) return false;
  }
  return true;
}

WaitingSwap SwapQueue::TakeOut(std::list<Item>::iterator item) {
  WaitingSwap swap = std::move(item->swap);
  items_.erase(item);
  --swaps_;
  rows_ -= swap.header.rows();
  return swap;
}

SwapQueue::Pass SwapQueue::Take() {
  Selection selection;
  for (auto it = items_.begin(); it != items_.end();) {
    const auto item = it++;
    if (item->release) {
      if (selection.taken.contains(item->released) ||
          selection.passed_over.contains(item->released)) {
        selection.passed_over.insert(item->released);
        continue;
      }
      selection.pass.releases.push_back(item->released);
      items_.erase(item);
      continue;
    }
    if (!Joins(item->swap, selection)) {
      selection.PassOver(item->swap);
      continue;
    }
    for (const exchange::SwapSequence& sequence : item->swap.header.sequences) {
      selection.taken.insert({item->swap.peer_id, sequence.sequence_id});
    }
    selection.rows += item->swap.header.rows();
    selection.pass.swaps.push_back(TakeOut(item));
  }
  return std::move(selection.pass);
}

std::vector<WaitingSwap> SwapQueue::RemovePeer(uint64_t peer_id) {
  std::vector<WaitingSwap> removed;
  for (auto it = items_.begin(); it != items_.end();) {
    const auto item = it++;
    if (item->release && item->released.first == peer_id)
      items_.erase(item);
    else if (!item->release && item->swap.peer_id == peer_id)
      removed.push_back(TakeOut(item));
  }
  return removed;
}

std::vector<WaitingSwap> SwapQueue::RemoveAll() {
  std::vector<WaitingSwap> removed;
  while (!items_.empty()) {
    if (items_.front().release)
      items_.pop_front();
    else
      removed.push_back(TakeOut(items_.begin()));
  }
  return removed;
}

int64_t SwapQueue::waiting_rows(const ExpertRef& expert) const {
  int64_t rows = 0;
  for (const Item& item : items_) {
    if (!item.release && item.swap.header.expert == expert) rows += item.swap.header.rows();
  }
  return rows;
}

}  // namespace ccoe::experts
