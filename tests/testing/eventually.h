// SPDX-License-Identifier: Apache-2.0
// Waits for what has no one to wait on.
#ifndef CCOE_TESTS_TESTING_EVENTUALLY_H_
#define CCOE_TESTS_TESTING_EVENTUALLY_H_

#include "absl/functional/function_ref.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace ccoe::testing {

// Whether `condition` comes to hold within a minute: far beyond what it takes, so that a test that
// would hang says at which line.
inline bool Eventually(absl::FunctionRef<bool()> condition) {
  const absl::Time late = absl::Now() + absl::Minutes(1);
  while (!condition()) {
    if (absl::Now() > late) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_EVENTUALLY_H_
