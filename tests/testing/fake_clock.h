// SPDX-License-Identifier: Apache-2.0
// A clock that moves only when told.
#ifndef CCOE_TESTS_TESTING_FAKE_CLOCK_H_
#define CCOE_TESTS_TESTING_FAKE_CLOCK_H_

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "runtime/base/clock.h"

namespace ccoe::testing {

class FakeClock final : public Clock {
 public:
  absl::Time Now() const override {
    absl::MutexLock lock(&mutex_);
    return now_;
  }
  void Advance(absl::Duration step) {
    absl::MutexLock lock(&mutex_);
    now_ += step;
  }

 private:
  mutable absl::Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_) = absl::UnixEpoch() + absl::Hours(1);
};

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_FAKE_CLOCK_H_
