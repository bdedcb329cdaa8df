// SPDX-License-Identifier: Apache-2.0
// Whether the peer of a link still lives and gets on. A busy peer answers heartbeats,
// a stopped one does not, though its connection lives: that is silence. A peer that answers and
// yet ends no pass has stalled. No threads, no clock, no wire.
#ifndef CCOE_RUNTIME_EXCHANGE_PEER_WATCH_H_
#define CCOE_RUNTIME_EXCHANGE_PEER_WATCH_H_

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"

namespace ccoe::exchange {

// What is put up with while swaps are in flight.
struct PeerPatience {
  // Without a sign of life. InfiniteDuration: a peer without a wire, never looked at.
  absl::Duration silence = absl::Milliseconds(700);
  // Without a pass that ended or a swap that was answered.
  absl::Duration stall = absl::Seconds(60);
};

// Heard and Progressed may be called from any thread; the rest from one at a time.
class PeerWatch {
 public:
  // What a look came to.
  struct Verdict {
    bool silent = false;   // for longer than allowed
    bool stalled = false;  // likewise
    absl::Duration heard_nothing = absl::ZeroDuration();
    absl::Duration no_progress = absl::ZeroDuration();
    absl::Time next_look = absl::InfiniteFuture();  // no sooner; InfiniteFuture: when swaps begin
  };

  // More silence, and a longer stall, is allowed as long as the bytes in flight may take on a slow
  // network.
  explicit PeerWatch(const PeerPatience& patience) : patience_(patience) {}

  // Something came from the peer.
  void Heard() { heard_.fetch_add(1, std::memory_order_relaxed); }
  // It ended a pass or answered a swap.
  void Progressed() { progressed_.fetch_add(1, std::memory_order_relaxed); }

  // To be called at `next_look`, and when a swap begins while there is none. `bytes` are those of
  // all swaps in flight, both ways. Time since the last look counts at most twice what was planned:
  // whoever was not running itself does not blame the peer for it.
  Verdict Look(absl::Time now, bool in_flight, int64_t bytes);

 private:
  // How long one of the two counters has stood still.
  struct Still {
    uint64_t then = 0;  // at the last look
    absl::Duration time = absl::ZeroDuration();
  };
  static void Count(const std::atomic<uint64_t>& counter, bool anew, absl::Duration step,
                    Still& still);

  const PeerPatience patience_;
  std::atomic<uint64_t> heard_ = 0, progressed_ = 0;
  Still silence_, stall_;
  absl::Time last_look_ = absl::InfinitePast();  // InfinitePast: none since swaps were in flight
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_PEER_WATCH_H_
