// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/peer_watch.h"

#include <algorithm>

namespace ccoe::exchange {
namespace {

// Looks, and with them heartbeats, in the time of silence that is allowed.
constexpr int kLooks = 4;
// A message is heard when it has come whole, so large ones on a slow network need patience: a
// network of 1 Gbit/s carries a little more.
constexpr double kSlowBytesPerSecond = 100e6;

}  // namespace

void PeerWatch::Count(const std::atomic<uint64_t>& counter, bool anew, absl::Duration step,
                      Still& still) {
  const uint64_t now = counter.load(std::memory_order_relaxed);
  still.time = anew || now != still.then ? absl::ZeroDuration() : still.time + step;
  still.then = now;
}

PeerWatch::Verdict PeerWatch::Look(absl::Time now, bool in_flight, int64_t bytes) {
  Verdict verdict;
  if (patience_.silence == absl::InfiniteDuration()) return verdict;
  const absl::Duration interval = patience_.silence / kLooks;
  const bool anew = !in_flight || last_look_ == absl::InfinitePast();
  const absl::Duration step =
      anew ? absl::ZeroDuration()
           : std::clamp(now - last_look_, absl::ZeroDuration(), 2 * interval);
  Count(heard_, anew, step, silence_);
  Count(progressed_, anew, step, stall_);
  last_look_ = in_flight ? now : absl::InfinitePast();
  if (!in_flight) return verdict;
  const absl::Duration slack = absl::Seconds(static_cast<double>(bytes) / kSlowBytesPerSecond);
  verdict.heard_nothing = silence_.time;
  verdict.silent = silence_.time >= patience_.silence + slack;
  verdict.no_progress = stall_.time;
  verdict.stalled = stall_.time >= patience_.stall + slack;
  verdict.next_look = now + interval;
  return verdict;
}

}  // namespace ccoe::exchange
