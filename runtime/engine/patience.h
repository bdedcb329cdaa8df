// How long the engine waits for links: shared by what is away for layer experts and for FFN
// experts.
#ifndef CCOE_RUNTIME_ENGINE_PATIENCE_H_
#define CCOE_RUNTIME_ENGINE_PATIENCE_H_

#include <algorithm>

#include "absl/time/time.h"

namespace ccoe::engine {

// Links answer by the deadline; this much later the engine stops believing it.
inline constexpr absl::Duration kLinkGrace = absl::Seconds(1);

// For how long what is away keeps other sequences waiting: `least`, or three usual round trips.
class Patience {
 public:
  explicit Patience(absl::Duration least) : least_(least) {}

  // A round trip that ended; the usual one is a moving average.
  void Observe(absl::Duration round_trip) { usual_ = usual_ * 0.8 + round_trip * 0.2; }
  absl::Duration now() const { return std::max(least_, 3 * usual_); }

 private:
  const absl::Duration least_;
  absl::Duration usual_ = absl::ZeroDuration();
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_PATIENCE_H_
