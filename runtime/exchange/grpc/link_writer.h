// SPDX-License-Identifier: Apache-2.0
// The sending half of a stream, for both ends of a grpc link: what is to be written, in order, one
// write at a time.
//
// clang-format off
//   Push --> waits: for its turn, for credit --> Write: encodes, begins to write --> Written: the next one
// clang-format on
//
// Whoever makes a write possible begins it, without a wait: who pushes it where nothing else is
// being written, else the thread that brings the end of a write, or credit. That saves each swap
// the wake of a thread. What takes long to encode is left to the link's own thread.
#ifndef CCOE_RUNTIME_EXCHANGE_GRPC_LINK_WRITER_H_
#define CCOE_RUNTIME_EXCHANGE_GRPC_LINK_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <deque>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "runtime/exchange/envelope.h"
#include "runtime/exchange/grpc/link_thread.h"

namespace ccoe::exchange {

// Thread-safe. Two lanes: what is urgent (heartbeats, cancels) overtakes; all else leaves in order,
// and what costs credit waits, with all behind it, until there is enough.
class LinkWriter {
 public:
  // Encodes an item and begins to write it: Written is called at the write's end. False: there is
  // nothing to write, and no Written. Called without a lock held.
  using Write = absl::AnyInvocable<bool()>;

  struct Options {
    SwapCredit credit;             // of the peer; what was written holds it until ReturnCredit
    size_t max_items = 1 << 16;    // that wait in each lane
    LinkThread* thread = nullptr;  // encodes rows of more than kLargeBytes. Required
    // Called once, when it is closed and nothing is being written any more. May be null.
    absl::AnyInvocable<void()> on_done;
  };

  explicit LinkWriter(Options options);
  ~LinkWriter();  // Close, then waits for AwaitDone. The thread of the options is gone before it

  // `bytes` of rows in host memory that `write` encodes. False: too many wait, or it is closed;
  // `write` is dropped.
  bool Push(const SwapCredit& cost, int64_t bytes, Write write) ABSL_LOCKS_EXCLUDED(mutex_);
  bool PushUrgent(Write write) ABSL_LOCKS_EXCLUDED(mutex_);

  // The write that was begun is over. Not ok: the stream is; the writer is closed then.
  void Written(bool ok) ABSL_LOCKS_EXCLUDED(mutex_);

  // Of a swap that was answered, or what the peer grants.
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
    int64_t bytes = 0;
    Write write;
  };

  bool Enqueue(std::deque<Item>& lane, Item item) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The lane whose first item may leave now; null: none.
  std::deque<Item>* ReadyLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Begins writes until one is in progress or nothing may leave.
  void Go(bool may_take_long) ABSL_LOCKS_EXCLUDED(mutex_);
  void CloseLocked(std::deque<Item>& urgent, std::deque<Item>& items)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether it is to be said now that all is over.
  bool OverLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SayDone();

  Options options_;
  mutable absl::Mutex mutex_;
  std::deque<Item> urgent_ ABSL_GUARDED_BY(mutex_);
  std::deque<Item> items_ ABSL_GUARDED_BY(mutex_);
  SwapCredit credit_ ABSL_GUARDED_BY(mutex_);  // left
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool asked_ ABSL_GUARDED_BY(mutex_) = false;  // the link's thread, to write what is large
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool over_ ABSL_GUARDED_BY(mutex_) = false;  // done_ is, or is being, notified
  absl::Notification done_;
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_GRPC_LINK_WRITER_H_
