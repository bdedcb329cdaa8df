// The swaps and releases that wait at an expert worker, and which of them make up the next pass. No
// threads, no model.
#ifndef CCOE_RUNTIME_EXPERTS_SWAP_QUEUE_H_
#define CCOE_RUNTIME_EXPERTS_SWAP_QUEUE_H_

#include <cstdint>
#include <list>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "kernels/device.h"
#include "runtime/base/ids.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/exchange/step_header.h"

namespace ccoe::experts {

struct WaitingSwap {
  uint64_t peer_id = 0;
  exchange::StepHeader header;  // validated
  exchange::RowBlock rows;      // [header.rows(), hidden], owned: see SwapHandler
  exchange::SwapCallback done;
};

// INVALID_ARGUMENT where the rows are not `hidden_size` values for each of the header's, or are
// those of another device than `device`.
absl::Status CheckRows(const WaitingSwap& swap, int64_t hidden_size, const kernels::Device& device);

// Not thread-safe.
class SwapQueue {
 public:
  using SequenceKey = std::pair<uint64_t, uint64_t>;  // peer, sequence

  struct Options {
    int64_t max_batch_rows = 2048;     // of one pass; a larger swap runs alone
    int max_waiting_swaps = 1024;      // one more is refused
    int64_t max_waiting_rows = 65536;  // likewise, unless it would be the only one
  };

  // What to do next, in this order.
  struct Pass {
    std::vector<SequenceKey> releases;
    std::vector<WaitingSwap> swaps;  // of one expert; no sequence twice
  };

  explicit SwapQueue(const Options& options) : options_(options) {}

  // RESOURCE_EXHAUSTED where too much waits; `swap` is untouched then.
  absl::Status Push(WaitingSwap&& swap);

  // Takes effect after the swaps of this sequence that wait now, and before later ones.
  void PushRelease(SequenceKey sequence);

  // The expert whose oldest swap waits longest, with all that can be merged: swaps of one peer for
  // the expert stay in order, a sequence is in a pass once, swaps with capture_layers run alone.
  // Empty only where nothing waits.
  Pass Take();

  // Takes out everything of a peer; returns the swaps.
  std::vector<WaitingSwap> RemovePeer(uint64_t peer_id);
  std::vector<WaitingSwap> RemoveAll();

  bool empty() const { return items_.empty(); }
  int64_t waiting_rows(const ExpertRef& expert) const;

 private:
  struct Item {
    bool release = false;
    SequenceKey released;
    WaitingSwap swap;
  };
  struct Selection;
  bool Joins(const WaitingSwap& swap, const Selection& selection) const;
  WaitingSwap TakeOut(std::list<Item>::iterator item);

  const Options options_;
  std::list<Item> items_;  // in order of arrival
  int swaps_ = 0;
  int64_t rows_ = 0;
};

}  // namespace ccoe::experts

#endif  // CCOE_RUNTIME_EXPERTS_SWAP_QUEUE_H_
