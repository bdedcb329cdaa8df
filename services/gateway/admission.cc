#include "services/gateway/admission.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "services/common/status_to_grpc.h"

namespace ccoe::services {
namespace {

constexpr absl::Duration kShortestHint = absl::Milliseconds(100);
constexpr absl::Duration kLongestHint = absl::Seconds(30);

}  // namespace

absl::StatusOr<std::unique_ptr<Admission::Ticket>> Admission::Enter() {
  absl::MutexLock lock(&mutex_);
  if (taken_ >= limit_) {
    return WithRetryAfter(
        absl::ResourceExhaustedError(
            absl::StrCat("the gateway is full: ", limit_, " queries are running; come back later")),
        std::clamp(mean_gap_, kShortestHint, kLongestHint));
  }
  // Gaps are measured between ends while busy: a quiet hour says nothing about them.
  if (taken_ == 0) last_end_ = absl::InfinitePast();
  ++taken_;
  return std::make_unique<Ticket>(this);
}

void Admission::Leave() {
  const absl::Time now = clock_->Now();
  absl::MutexLock lock(&mutex_);
  --taken_;
  if (last_end_ != absl::InfinitePast()) {
    mean_gap_ = 0.8 * mean_gap_ + 0.2 * (now - last_end_);
  }
  last_end_ = now;
}

int64_t Admission::taken() const {
  absl::MutexLock lock(&mutex_);
  return taken_;
}

}  // namespace ccoe::services
