// The sending half of a stream, for both ends of a grpc link: one thread that encodes and writes
// what others queue, so that nobody who queues waits for a network.
#ifndef CCOE_RUNTIME_EXCHANGE_GRPC_LINK_WRITER_H_
#define CCOE_RUNTIME_EXCHANGE_GRPC_LINK_WRITER_H_

#include <cstddef>
#include <deque>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "runtime/exchange/swap_credit.h"

namespace ccoe::exchange {

// Thread-safe. Two lanes: what is urgent (heartbeats, cancels) overtakes; all else leaves in order,
// and what costs credit waits, with all behind it, until there is enough.
class LinkWriter {
 public:
  // Encodes an item and writes it, on the writer's thread. False: the stream is over.
  using Write = absl::AnyInvocable<bool()>;

  struct Options {
    SwapCredit credit;           // of the peer; what was written holds it until ReturnCredit
    size_t max_items = 1 << 16;  // that wait in each lane
    absl::Duration first_item = absl::InfiniteDuration();  // without one so long: broken
    // Called once, on the writer's thread, where the stream is over or no first item came.
    absl::AnyInvocable<void()> on_broken;
  };

  // Starts the thread.
  explicit LinkWriter(Options options);
  ~LinkWriter();  // Close, then waits for a write in progress

  // False: too many wait, or it is closed; `write` is dropped.
  bool Push(const SwapCredit& cost, Write write) ABSL_LOCKS_EXCLUDED(mutex_);
  bool PushUrgent(Write write) ABSL_LOCKS_EXCLUDED(mutex_);

  // Of a swap that was answered.
  void ReturnCredit(const SwapCredit& credit) ABSL_LOCKS_EXCLUDED(mutex_);

  // Whether what comes first waits for credit.
  bool Starved() const ABSL_LOCKS_EXCLUDED(mutex_);

  bool closed() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Drops what waits and takes no more. Returns at once.
  void Close() ABSL_LOCKS_EXCLUDED(mutex_);
  // After Close: whether a write in progress ended in time.
  bool AwaitDone(absl::Duration timeout) const {
    return done_.WaitForNotificationWithTimeout(timeout);
  }

 private:
  struct Item {
    SwapCredit cost;
    Write write;
  };

  bool ReadyLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Empty where there is nothing more to write.
  Write Next(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mutex_);
  void WriteAll() ABSL_LOCKS_EXCLUDED(mutex_);

  Options options_;
  mutable absl::Mutex mutex_;
  std::deque<Write> urgent_ ABSL_GUARDED_BY(mutex_);
  std::deque<Item> items_ ABSL_GUARDED_BY(mutex_);
  SwapCredit credit_ ABSL_GUARDED_BY(mutex_);  // left
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Notification done_;
  std::thread thread_;
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_GRPC_LINK_WRITER_H_
