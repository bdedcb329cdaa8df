#include "runtime/exchange/silence_watch.h"

#include <algorithm>

namespace ccoe::exchange {
namespace {

// Looks, and with them heartbeats, in the time of silence that is allowed.
constexpr int kLooks = 4;
// A message is heard when it has come whole, so large ones on a slow network need patience: a
// network of 1 Gbit/s carries a little more.
constexpr double kSlowBytesPerSecond = 100e6;

}  // namespace

SilenceWatch::Verdict SilenceWatch::Look(absl::Time now, bool in_flight, int64_t bytes) {
  Verdict verdict;
  if (timeout_ == absl::InfiniteDuration()) return verdict;
  const absl::Duration interval = timeout_ / kLooks;
  const uint64_t heard = heard_.load(std::memory_order_relaxed);
  if (!in_flight || last_look_ == absl::InfinitePast() || heard != heard_then_) {
    silence_ = absl::ZeroDuration();
  } else {
    silence_ += std::clamp(now - last_look_, absl::ZeroDuration(), 2 * interval);
  }
  heard_then_ = heard;
  last_look_ = in_flight ? now : absl::InfinitePast();
  if (!in_flight) return verdict;
  verdict.heard_nothing = silence_;
  verdict.silent =
      silence_ >= timeout_ + absl::Seconds(static_cast<double>(bytes) / kSlowBytesPerSecond);
  verdict.next_look = now + interval;
  return verdict;
}

}  // namespace ccoe::exchange
