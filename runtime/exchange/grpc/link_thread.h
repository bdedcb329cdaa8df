// SPDX-License-Identifier: Apache-2.0
// A thread of a link's own for what would take long on a thread that others share: encoding and
// decoding many rows. It is started when it is needed first.
#ifndef CCOE_RUNTIME_EXCHANGE_GRPC_LINK_THREAD_H_
#define CCOE_RUNTIME_EXCHANGE_GRPC_LINK_THREAD_H_

#include <cstdint>
#include <deque>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"

namespace ccoe::exchange {

// Thread-safe.
class LinkThread {
 public:
  // Rows of more bytes are encoded and decoded here.
  static constexpr int64_t kLargeBytes = 64 << 10;

  LinkThread() = default;
  ~LinkThread();  // runs what waits

  // Runs `work` after what was given before. Where the system did not give it a thread when it
  // first asked for one, all work runs at once, on the callers' threads.
  void Run(absl::AnyInvocable<void()> work) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Work() ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Mutex mutex_;
  std::deque<absl::AnyInvocable<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_ ABSL_GUARDED_BY(mutex_);
  bool without_thread_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_GRPC_LINK_THREAD_H_
