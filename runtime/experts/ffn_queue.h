// The swaps that wait for FFN experts, and which of them make up the next pass. No threads, no
// model.
#ifndef CCOE_RUNTIME_EXPERTS_FFN_QUEUE_H_
#define CCOE_RUNTIME_EXPERTS_FFN_QUEUE_H_

#include <cstdint>
#include <list>
#include <vector>

#include "absl/status/status.h"
#include "runtime/experts/swap_queue.h"

namespace ccoe::experts {

// All swaps have header.ffn. Not thread-safe.
class FfnQueue {
 public:
  struct Options {
    int64_t max_batch_pairs = 4096;    // (row, expert) pairs of one pass; a larger swap runs alone
    int max_waiting_swaps = 1024;      // one more is refused
    int64_t max_waiting_rows = 65536;  // likewise, unless it would be the only one
  };

  explicit FfnQueue(const Options& options) : options_(options) {}

  // RESOURCE_EXHAUSTED where too much waits; `swap` is untouched then.
  absl::Status Push(WaitingSwap&& swap);

  // The layer of the oldest swap, with all that can be merged: swaps of one peer stay in order.
  // Empty only where nothing waits.
  std::vector<WaitingSwap> Take();

  std::vector<WaitingSwap> RemovePeer(uint64_t peer_id);
  std::vector<WaitingSwap> RemoveAll();

  bool empty() const { return swaps_.empty(); }
  int64_t waiting_rows() const { return rows_; }

 private:
  WaitingSwap TakeOut(std::list<WaitingSwap>::iterator swap);

  const Options options_;
  std::list<WaitingSwap> swaps_;  // in order of arrival
  int64_t rows_ = 0;
};

}  // namespace ccoe::experts

#endif  // CCOE_RUNTIME_EXPERTS_FFN_QUEUE_H_
