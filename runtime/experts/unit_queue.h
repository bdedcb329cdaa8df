// SPDX-License-Identifier: Apache-2.0
// The swaps that wait at an expert worker, and which of them make up the next pass. No threads, no
// model.
//
//   units:      math@1   [1] [4] [5]      each a list in order of arrival
//               layer 7  [2] [3]
//   sequences:  peer 1, sequence 9   [1] [5]
//
// The unit whose oldest swap waits longest comes next, with all of its list that fits into a pass.
// A swap of a layer expert joins where it is the first that waits of each of its sequences: so a
// sequence keeps its order, at all experts, and is in a pass once. Swaps for FFN experts depend on
// nothing but their rows and join whatever their order. Taking a pass costs a walk over one unit's
// list, until the pass is full; everything else is found by key.
#ifndef CCOE_RUNTIME_EXPERTS_UNIT_QUEUE_H_
#define CCOE_RUNTIME_EXPERTS_UNIT_QUEUE_H_

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/node_hash_map.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "runtime/base/ids.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/exchange/envelope.h"

namespace ccoe::experts {

// What computes a swap: a layer expert, or the FFN experts of a MoE layer.
struct UnitKey {
  ExpertRef expert;    // empty: FFN experts
  int32_t layer = -1;  // of FFN experts

  static UnitKey Of(const exchange::SwapHeader& header);
  bool is_layers() const { return !expert.empty(); }
  std::string ToString() const;  // "math@1", "layer 7"

  friend bool operator==(const UnitKey& a, const UnitKey& b) {
    return a.layer == b.layer && a.expert == b.expert;
  }
  template <typename H>
  friend H AbslHashValue(H h, const UnitKey& key) {
    return H::combine(std::move(h), key.expert, key.layer);
  }
};

struct WaitingSwap {
  uint64_t peer_id = 0;
  exchange::Swap swap;
  // As SwapResult's: what is not OK is not computed. Empty: all of it is.
  std::vector<absl::Status> verdicts;
  std::shared_ptr<exchange::SwapCallback> done;  // that of its envelope

  const exchange::SwapHeader& header() const { return swap.header; }
  const exchange::LayerSwap& layers() const { return *swap.header.layer(); }
  const exchange::FfnSwap& ffn() const { return *swap.header.ffn(); }

  // Whether sequence `i` of a layer swap is still to be computed, and whether any is.
  bool computes(size_t i) const { return verdicts.empty() || verdicts[i].ok(); }
  bool computes_any() const;
  void LeaveOut(size_t i, absl::Status verdict);
};

// Not thread-safe.
class UnitQueue {
 public:
  using SequenceKey = std::pair<uint64_t, uint64_t>;  // peer, sequence

  struct Options {
    // A larger swap runs alone.
    int64_t max_batch_rows = 2048;   // of one pass of a layer expert
    int64_t max_batch_pairs = 2048;  // (row, expert) pairs of one pass of FFN experts
    // One more is refused.
    int max_waiting_swaps = 1024;
    int64_t max_waiting_bytes = int64_t{512} << 20;  // unless it would be the only one
  };

  struct Pass {
    UnitKey unit;
    std::vector<WaitingSwap> swaps;  // no sequence twice; with capture_layers alone
  };

  explicit UnitQueue(const Options& options) : options_(options) {}
  UnitQueue(const UnitQueue&) = delete;
  UnitQueue& operator=(const UnitQueue&) = delete;

  // kQueueFull where too much waits, kInvalid where the peer's swap of this id waits already;
  // `swap` is untouched then.
  absl::Status Push(WaitingSwap&& swap);

  // The next pass; nothing only where nothing waits.
  Pass Take();

  // Takes out those of a peer's swaps that wait; unknown ids are passed over.
  std::vector<WaitingSwap> Cancel(uint64_t peer_id, absl::Span<const uint64_t> swap_ids);
  // Leaves a sequence out (kCancelled) of all swaps that wait; returns those that have nothing left
  // to be computed.
  std::vector<WaitingSwap> Release(SequenceKey sequence);
  std::vector<WaitingSwap> RemoveUnit(const UnitKey& unit);
  std::vector<WaitingSwap> RemovePeer(uint64_t peer_id);
  std::vector<WaitingSwap> RemoveAll();

  bool empty() const { return swaps_.empty(); }
  int64_t waiting_swaps() const { return static_cast<int64_t>(swaps_.size()); }
  int64_t waiting_bytes() const { return bytes_; }
  int64_t waiting_rows() const { return rows_; }
  int64_t waiting_rows(const UnitKey& unit) const;

 private:
  struct Unit;
  struct Item {
    WaitingSwap waiting;
    uint64_t order = 0;  // of arrival
    int64_t bytes = 0;   // of host or device memory that it holds
    int64_t rows = 0;    // that are to be computed
    int64_t load = 0;    // of a pass: rows, or pairs
    Unit* unit = nullptr;
  };
  using Place = std::list<Item>::iterator;
  struct Unit {
    UnitKey key;
    std::list<Item> items;  // in order of arrival
    int64_t rows = 0;
  };

  // Whether it is the first that waits of each of its sequences.
  bool IsFirst(const Item& item) const;
  std::vector<Place> Choose(Unit& unit);
  WaitingSwap TakeOut(Place place);
  void Forget(SequenceKey sequence, const Item* item);

  const Options options_;
  absl::node_hash_map<UnitKey, Unit> units_;  // those with swaps
  std::map<uint64_t, Unit*> oldest_;          // by the order of a unit's oldest swap
  absl::flat_hash_map<std::pair<uint64_t, uint64_t>, Place> swaps_;     // by peer and swap id
  absl::flat_hash_map<SequenceKey, std::vector<const Item*>> waiting_;  // in order of arrival
  uint64_t arrivals_ = 0;
  int64_t bytes_ = 0;
  int64_t rows_ = 0;
};

}  // namespace ccoe::experts

#endif  // CCOE_RUNTIME_EXPERTS_UNIT_QUEUE_H_
