// Time comes in from outside, so that a test can drive it.
#ifndef CCOE_RUNTIME_BASE_CLOCK_H_
#define CCOE_RUNTIME_BASE_CLOCK_H_

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace ccoe {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
};

class SystemClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
};

}  // namespace ccoe

#endif  // CCOE_RUNTIME_BASE_CLOCK_H_
