// SPDX-License-Identifier: Apache-2.0
// The only queue class: a size limit, a close, a deadline.
#ifndef CCOE_RUNTIME_BASE_BOUNDED_QUEUE_H_
#define CCOE_RUNTIME_BASE_BOUNDED_QUEUE_H_

#include <cstddef>
#include <deque>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace ccoe {

// First in, first out between any number of producers and consumers. Thread-safe.
template <typename T>
class BoundedQueue {
 public:
  // `capacity` >= 1 items.
  explicit BoundedQueue(size_t capacity) : capacity_(capacity) {}

  // Adds `item` unless the queue is full or closed. On false `item` is untouched.
  bool TryPush(T&& item) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (closed_ || items_.size() >= capacity_) return false;
    items_.push_back(std::move(item));
    return true;
  }

  // Waits for room until `deadline`. On false (time is up, or closed) `item` is untouched.
  bool Push(T&& item, absl::Time deadline = absl::InfiniteFuture()) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return closed_ || items_.size() < capacity_;
    };
    if (!mutex_.AwaitWithDeadline(absl::Condition(&ready), deadline) || closed_) return false;
    items_.push_back(std::move(item));
    return true;
  }

  // Waits for an item until `deadline`. nullopt: time is up, or the queue is closed and empty.
  std::optional<T> Pop(absl::Time deadline = absl::InfiniteFuture()) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    auto ready = [this]()
                     ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return closed_ || !items_.empty(); };
    mutex_.AwaitWithDeadline(absl::Condition(&ready), deadline);
    return PopLocked();
  }

  // The next item if there is one now.
  std::optional<T> TryPop() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return PopLocked();
  }

  // Refuses further pushes; what is queued can still be popped. Wakes all who wait. May be called
  // again.
  void Close() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
  }

  bool closed() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return closed_;
  }

  size_t size() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return items_.size();
  }

  size_t capacity() const { return capacity_; }

 private:
  std::optional<T> PopLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (items_.empty()) return std::nullopt;
    std::optional<T> item(std::move(items_.front()));
    items_.pop_front();
    return item;
  }

  const size_t capacity_;
  mutable absl::Mutex mutex_;
  std::deque<T> items_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace ccoe

#endif  // CCOE_RUNTIME_BASE_BOUNDED_QUEUE_H_
