// SPDX-License-Identifier: Apache-2.0
#include "runtime/experts/unit_queue.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace ccoe::experts {
namespace {

using exchange::SwapError;
using exchange::SwapReason;

template <typename T>
int64_t BytesOf(const std::vector<T>& values) {
  return static_cast<int64_t>(values.size() * sizeof(T));
}

// Of a block that several swaps share, each counts the rows it names.
int64_t MemoryOf(const exchange::Swap& swap) {
  const int64_t values = swap.header.rows() * swap.header.format.hidden_size;
  int64_t bytes = values * static_cast<int64_t>(kernels::DTypeBytes(swap.rows.block.dtype())) +
                  BytesOf(swap.rows.index);
  if (const exchange::FfnSwap* ffn = swap.header.ffn()) {
    return bytes + BytesOf(ffn->offsets) + BytesOf(ffn->experts) + BytesOf(ffn->weights);
  }
  return bytes + BytesOf(swap.header.layer()->sequences);
}

bool Captures(const exchange::SwapHeader& header) {
  return header.layer() != nullptr && header.layer()->capture_layers;
}

}  // namespace

UnitKey UnitKey::Of(const exchange::SwapHeader& header) {
  if (header.ffn() != nullptr) return {{}, header.ffn()->layer};
  return {header.layer()->expert, -1};
}

std::string UnitKey::ToString() const {
  return is_layers() ? expert.ToString() : absl::StrCat("layer ", layer);
}

bool WaitingSwap::computes_any() const {
  return verdicts.empty() || std::any_of(verdicts.begin(), verdicts.end(),
                                         [](const absl::Status& each) { return each.ok(); });
}

void WaitingSwap::LeaveOut(size_t i, absl::Status verdict) {
  verdicts.resize(layers().sequences.size());
  verdicts[i] = std::move(verdict);
}

absl::Status UnitQueue::Push(WaitingSwap&& waiting) {
  const exchange::SwapHeader& header = waiting.header();
  const int64_t bytes = MemoryOf(waiting.swap);
  if (waiting_swaps() >= options_.max_waiting_swaps ||
      (!empty() && bytes_ + bytes > options_.max_waiting_bytes)) {
    return SwapError(
        SwapReason::kQueueFull,
        absl::StrCat("swap ", header.id, " of ", bytes, " bytes: ", waiting_swaps(), " swaps of ",
                     bytes_, " bytes wait for the experts, at most ", options_.max_waiting_swaps,
                     " of ", options_.max_waiting_bytes, " bytes"));
  }
  const auto [entry, fresh] = swaps_.try_emplace({waiting.peer_id, header.id});
  if (!fresh) {
    return SwapError(SwapReason::kInvalid, absl::StrCat("swap ", header.id, " waits already"));
  }
  const UnitKey key = UnitKey::Of(header);
  Unit& unit = units_[key];
  Item item;
  item.order = ++arrivals_;
  item.bytes = bytes;
  item.rows = header.rows();
  item.load = header.ffn() != nullptr ? header.ffn()->pairs() : item.rows;
  item.unit = &unit;
  item.waiting = std::move(waiting);
  if (unit.items.empty()) {
    unit.key = key;
    oldest_[item.order] = &unit;
  }
  bytes_ += bytes;
  rows_ += item.rows;
  unit.rows += item.rows;
  entry->second = unit.items.insert(unit.items.end(), std::move(item));
  const Item& kept = *entry->second;
  if (key.is_layers()) {
    for (const exchange::SwapSequence& sequence : kept.waiting.layers().sequences) {
      waiting_[{kept.waiting.peer_id, sequence.sequence_id}].push_back(&kept);
    }
  }
  return absl::OkStatus();
}

bool UnitQueue::IsFirst(const Item& item) const {
  if (!item.unit->key.is_layers()) return true;
  const std::vector<exchange::SwapSequence>& sequences = item.waiting.layers().sequences;
  for (size_t i = 0; i < sequences.size(); ++i) {
    if (!item.waiting.computes(i)) continue;
    if (waiting_.at({item.waiting.peer_id, sequences[i].sequence_id}).front() != &item) {
      return false;
    }
  }
  return true;
}

// The oldest swap of all is the first of each of its sequences, so the list is never empty.
std::vector<UnitQueue::Place> UnitQueue::Choose(Unit& unit) {
  const int64_t most = unit.key.is_layers() ? options_.max_batch_rows : options_.max_batch_pairs;
  std::vector<Place> chosen;
  int64_t load = 0;
  for (Place place = unit.items.begin(); place != unit.items.end(); ++place) {
    const bool captures = Captures(place->waiting.header());
    if (!chosen.empty() && (captures || load + place->load > most)) continue;
    if (!IsFirst(*place)) continue;
    load += place->load;
    chosen.push_back(place);
    if (captures || load >= most) break;
  }
  return chosen;
}

UnitQueue::Pass UnitQueue::Take() {
  Pass pass;
  if (empty()) return pass;
  Unit& unit = *oldest_.begin()->second;
  pass.unit = unit.key;
  for (const Place place : Choose(unit)) pass.swaps.push_back(TakeOut(place));
  return pass;
}

void UnitQueue::Forget(SequenceKey sequence, const Item* item) {
  const auto found = waiting_.find(sequence);
  if (found == waiting_.end()) return;
  std::vector<const Item*>& items = found->second;
  items.erase(std::remove(items.begin(), items.end(), item), items.end());
  if (items.empty()) waiting_.erase(found);
}

WaitingSwap UnitQueue::TakeOut(Place place) {
  Unit& unit = *place->unit;
  const uint64_t peer_id = place->waiting.peer_id;
  if (unit.key.is_layers()) {
    for (const exchange::SwapSequence& sequence : place->waiting.layers().sequences) {
      Forget({peer_id, sequence.sequence_id}, &*place);
    }
  }
  bytes_ -= place->bytes;
  rows_ -= place->rows;
  unit.rows -= place->rows;
  swaps_.erase({peer_id, place->waiting.header().id});
  WaitingSwap taken = std::move(place->waiting);
  const auto oldest = oldest_.find(place->order);
  const bool was_oldest = oldest != oldest_.end();
  if (was_oldest) oldest_.erase(oldest);
  unit.items.erase(place);
  if (unit.items.empty()) {
    units_.erase(UnitKey(unit.key));
  } else if (was_oldest) {
    oldest_[unit.items.front().order] = &unit;
  }
  return taken;
}

std::vector<WaitingSwap> UnitQueue::Cancel(uint64_t peer_id, absl::Span<const uint64_t> swap_ids) {
  std::vector<WaitingSwap> removed;
  for (const uint64_t id : swap_ids) {
    const auto found = swaps_.find({peer_id, id});
    if (found != swaps_.end()) removed.push_back(TakeOut(found->second));
  }
  return removed;
}

std::vector<WaitingSwap> UnitQueue::Release(SequenceKey sequence) {
  std::vector<WaitingSwap> removed;
  const auto found = waiting_.find(sequence);
  if (found == waiting_.end()) return removed;
  const std::vector<const Item*> items = std::move(found->second);
  waiting_.erase(found);
  for (const Item* const each : items) {
    const Place place = swaps_.at({sequence.first, each->waiting.header().id});
    const std::vector<exchange::SwapSequence>& all = place->waiting.layers().sequences;
    size_t i = 0;
    while (all[i].sequence_id != sequence.second) ++i;
    place->waiting.LeaveOut(i,
                            SwapError(SwapReason::kCancelled,
                                      absl::StrCat("sequence ", sequence.second, " was released")));
    place->rows -= all[i].row_count;
    place->load -= all[i].row_count;
    place->unit->rows -= all[i].row_count;
    rows_ -= all[i].row_count;
    if (!place->waiting.computes_any()) removed.push_back(TakeOut(place));
  }
  return removed;
}

std::vector<WaitingSwap> UnitQueue::RemoveUnit(const UnitKey& unit) {
  std::vector<WaitingSwap> removed;
  for (auto found = units_.find(unit); found != units_.end(); found = units_.find(unit)) {
    removed.push_back(TakeOut(found->second.items.begin()));
  }
  return removed;
}

std::vector<WaitingSwap> UnitQueue::RemovePeer(uint64_t peer_id) {
  std::vector<uint64_t> ids;
  for (const auto& [key, place] : swaps_) {
    if (key.first == peer_id) ids.push_back(key.second);
  }
  std::sort(ids.begin(), ids.end());
  return Cancel(peer_id, ids);
}

std::vector<WaitingSwap> UnitQueue::RemoveAll() {
  std::vector<WaitingSwap> removed;
  while (!empty()) removed.push_back(TakeOut(oldest_.begin()->second->items.begin()));
  return removed;
}

int64_t UnitQueue::waiting_rows(const UnitKey& unit) const {
  const auto found = units_.find(unit);
  return found == units_.end() ? 0 : found->second.rows;
}

}  // namespace ccoe::experts
