// SPDX-License-Identifier: Apache-2.0
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

// `clock`, or the system's where it is null.
inline const Clock& ClockOr(const Clock* clock) {
  static const SystemClock system;
  return clock != nullptr ? *clock : system;
}

}  // namespace ccoe

#endif  // CCOE_RUNTIME_BASE_CLOCK_H_
