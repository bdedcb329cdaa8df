// SPDX-License-Identifier: Apache-2.0
// The one thread of a GPU that makes all calls of NCCL for it, of all links. NCCL calls it unsafe
// when several threads run operations on several communicators of one device at the same time; here
// they are in one order, and no call waits: communicators are polled, so that a link that opens and
// one that ends hold up nobody.
#ifndef CCOE_RUNTIME_EXCHANGE_NCCL_DEVICE_THREAD_H_
#define CCOE_RUNTIME_EXCHANGE_NCCL_DEVICE_THREAD_H_

#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "runtime/base/clock.h"
#include "runtime/exchange/nccl/communicator.h"
#include "runtime/exchange/row_carrier.h"

namespace ccoe::exchange {

class LinkDriver;

// Thread-safe. Outlives its carriers.
class DeviceThread {
 public:
  struct Options {
    // A round that both ends have posted and that is not through after so long ends its link.
    absl::Duration patience = absl::Milliseconds(800);
    const Clock* clock = nullptr;         // null: the system's
    absl::AnyInvocable<void()> on_start;  // on the thread, before all else; may be empty
  };

  explicit DeviceThread(Options options);
  ~DeviceThread();

  // Makes a communicator on the thread.
  using Make = absl::AnyInvocable<std::unique_ptr<Communicator>()>;

  // A carrier over the communicator that `make` gives; returns when both ends have met.
  // DEADLINE_EXCEEDED after `timeout`.
  absl::StatusOr<std::unique_ptr<RowCarrier>> Open(Make make, bool leads, absl::Duration timeout,
                                                   RowCarrier::SendNote send_note);

  // Runs `task` on the thread, after what was given before. From any thread.
  void Run(absl::AnyInvocable<void()> task) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // What was given since the last time; waits for something where nothing is under way. False: the
  // end.
  bool TakeTasks(bool active, std::vector<absl::AnyInvocable<void()>>& tasks)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether anything is under way.
  bool StepAll();
  void Loop();

  Options options_;
  const Clock& clock_;
  std::vector<std::shared_ptr<LinkDriver>> links_;  // of the thread alone
  absl::Mutex mutex_;
  std::vector<absl::AnyInvocable<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_NCCL_DEVICE_THREAD_H_
