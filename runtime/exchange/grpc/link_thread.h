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

// Whether the system lets this process have some threads more (by starting and ending them). gRPC
// starts threads of its own when calls end, and loses what they were for where it gets none: links
// take no thread without that many left.
bool ThreadsToSpare();

// Thread-safe.
class LinkThread {
 public:
  // Rows of more bytes are encoded and decoded here.
  static constexpr int64_t kLargeBytes = 64 << 10;

  LinkThread() = default;
  ~LinkThread();  // runs what waits

  // Runs `work` after what was given before. Where the system has no threads to spare, at once and
  // on the caller's.
  void Run(absl::AnyInvocable<void()> work) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Work() ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Mutex mutex_;
  std::deque<absl::AnyInvocable<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_GRPC_LINK_THREAD_H_
