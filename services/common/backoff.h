// Growing pauses between attempts.
#ifndef CCOE_SERVICES_COMMON_BACKOFF_H_
#define CCOE_SERVICES_COMMON_BACKOFF_H_

#include <algorithm>
#include <random>

#include "absl/time/time.h"

namespace ccoe::services {

// first, 2 first, 4 first, ... up to max; each shortened by up to 20 % at random, so that peers
// that failed together do not come back together. Not thread-safe.
class Backoff {
 public:
  Backoff(absl::Duration first, absl::Duration max) : first_(first), max_(max), next_(first) {}

  absl::Duration Next() {
    const absl::Duration pause = next_ * std::uniform_real_distribution<double>(0.8, 1.0)(random_);
    next_ = std::min(next_ * 2, max_);
    return pause;
  }

  void Reset() { next_ = first_; }

 private:
  const absl::Duration first_;
  const absl::Duration max_;
  absl::Duration next_;
  std::minstd_rand random_{std::random_device{}()};
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_BACKOFF_H_
