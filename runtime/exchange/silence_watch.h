// Whether the peer of a link still answers: a busy peer's link threads answer heartbeats, a stopped
// peer's do not, though its connection lives. No threads, no clock, no wire.
#ifndef CCOE_RUNTIME_EXCHANGE_SILENCE_WATCH_H_
#define CCOE_RUNTIME_EXCHANGE_SILENCE_WATCH_H_

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"

namespace ccoe::exchange {

// Heard may be called from any thread; the rest from one at a time.
class SilenceWatch {
 public:
  // What a look came to.
  struct Verdict {
    bool silent = false;  // for longer than allowed
    absl::Duration heard_nothing = absl::ZeroDuration();
    absl::Time next_look = absl::InfiniteFuture();  // no sooner; InfiniteFuture: when swaps begin
  };

  // `timeout` of silence is allowed while swaps are in flight, and more as long as their bytes may
  // take on a slow network. InfiniteDuration: any.
  explicit SilenceWatch(absl::Duration timeout) : timeout_(timeout) {}

  // Something came from the peer.
  void Heard() { heard_.fetch_add(1, std::memory_order_relaxed); }

  // To be called at `next_look`, and when a swap begins while there is none. `bytes` are those of
  // all swaps in flight, both ways. Time since the last look counts at most twice what was planned:
  // whoever was not running itself does not blame the peer for it.
  Verdict Look(absl::Time now, bool in_flight, int64_t bytes);

 private:
  const absl::Duration timeout_;
  std::atomic<uint64_t> heard_ = 0;
  uint64_t heard_then_ = 0;                      // at the last look
  absl::Time last_look_ = absl::InfinitePast();  // InfinitePast: none since swaps were in flight
  absl::Duration silence_ = absl::ZeroDuration();
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_SILENCE_WATCH_H_
