#include "runtime/engine/request_queue.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/retry_hint.h"

namespace ccoe::engine {
namespace {

constexpr absl::Duration kUnknownHint = absl::Seconds(1);
constexpr absl::Duration kShortestHint = absl::Milliseconds(10);
constexpr absl::Duration kLongestHint = absl::Minutes(1);
constexpr double kNewShare = 0.2;  // of the newest interval in the moving average

}  // namespace

absl::StatusOr<uint64_t> RequestQueue::Submit(SequenceInit init) {
  absl::MutexLock lock(&mutex_);
  if (!health_.ok()) return health_;
  if (draining_ || events_.stop)
    return absl::UnavailableError("this engine is draining; ask another worker");
  if (waiting_ + static_cast<int64_t>(events_.submissions.size()) >= max_waiting_) {
    const absl::Duration hint = RetryHint();
    return WithRetryHint(
        absl::ResourceExhaustedError(absl::StrCat("the admission queue is full (", max_waiting_,
                                                  " queries wait); retry in about ",
                                                  absl::ToInt64Milliseconds(hint), " ms")),
        hint);
  }
  init.handle = ++last_handle_;
  init.seed =
      init.query.sampling.seed.value_or(seed_entropy_ + 0x9e3779b97f4a7c15ULL * init.handle);
  init.submitted = clock_.Now();
  live_.insert(init.handle);
  events_.submissions.push_back(std::move(init));
  return last_handle_;
}

void RequestQueue::Cancel(uint64_t handle) {
  absl::MutexLock lock(&mutex_);
  if (live_.contains(handle) && cancelled_.insert(handle).second) events_.cancels.push_back(handle);
}

void RequestQueue::Answer(SwapAnswer answer) {
  absl::MutexLock lock(&mutex_);
  if (!events_.stop) events_.answers.push_back(std::move(answer));
}

void RequestQueue::Stop() {
  absl::MutexLock lock(&mutex_);
  events_.stop = true;
}

void RequestQueue::Fail(const absl::Status& why) {
  absl::MutexLock lock(&mutex_);
  if (health_.ok()) health_ = why;
}

absl::Status RequestQueue::Health() const {
  absl::MutexLock lock(&mutex_);
  return health_;
}

bool RequestQueue::Drain(absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  draining_ = true;
  const auto empty = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return live_.empty(); };
  return mutex_.AwaitWithDeadline(absl::Condition(&empty), deadline);
}

EngineLoad RequestQueue::Load() const {
  absl::MutexLock lock(&mutex_);
  EngineLoad load = load_;
  load.waiting += static_cast<int64_t>(events_.submissions.size());
  return load;
}

bool RequestQueue::HasEvents() const {
  return events_.stop || !events_.submissions.empty() || !events_.cancels.empty() ||
         !events_.answers.empty();
}

RequestQueue::Events RequestQueue::Take(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(this, &RequestQueue::HasEvents), timeout);
  waiting_ += static_cast<int64_t>(events_.submissions.size());
  Events taken = std::exchange(events_, {});
  events_.stop = taken.stop;
  return taken;
}

void RequestQueue::Publish(const Report& report, absl::Time now) {
  absl::MutexLock lock(&mutex_);
  load_ = report.load;
  waiting_ = report.fresh_waiting;
  if (report.finished.empty()) return;
  for (uint64_t handle : report.finished) {
    live_.erase(handle);
    cancelled_.erase(handle);
  }
  const double interval =
      absl::ToDoubleSeconds(now - last_finish_) / static_cast<double>(report.finished.size());
  if (last_finish_ != absl::InfinitePast()) {
    seconds_per_query_ = seconds_per_query_ == 0.0
                             ? interval
                             : (1.0 - kNewShare) * seconds_per_query_ + kNewShare * interval;
  }
  last_finish_ = now;
}

// The time in which an eighth of the queue moves on: many clients get the same answer and should
// not all come back for one place.
absl::Duration RequestQueue::RetryHint() const {
  if (seconds_per_query_ == 0.0) return kUnknownHint;
  const int64_t places = std::max<int64_t>(1, max_waiting_ / 8);
  return std::clamp(absl::Seconds(seconds_per_query_ * static_cast<double>(places)), kShortestHint,
                    kLongestHint);
}

}  // namespace ccoe::engine
