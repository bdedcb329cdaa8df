// SPDX-License-Identifier: Apache-2.0
// SIGTERM and SIGINT: the first drains, the second ends the process at once.
#ifndef CCOE_SERVICES_COMMON_SIGNALS_H_
#define CCOE_SERVICES_COMMON_SIGNALS_H_

#include <functional>
#include <memory>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"

namespace ccoe::services {

// One at a time in a process; ALREADY_EXISTS for a second. It works whatever threads there are
// already (a library may start some while it is loaded), by a handler rather than a mask. SIGPIPE
// is ignored from then on. Signals that wait for a debugger or the parent (SIGQUIT, ...) are left
// alone. Destruction stops the watching; the signals end the process then, as by default.
class SignalWatcher {
 public:
  // `on_first` is called once, from the watcher's thread, with the signal's number; it may block.
  // Unset: nothing. A second signal ends the process with status 128 + its number. INTERNAL names
  // the system call that failed.
  static absl::StatusOr<std::unique_ptr<SignalWatcher>> Create(std::function<void(int)> on_first);

  ~SignalWatcher();
  SignalWatcher(const SignalWatcher&) = delete;
  SignalWatcher& operator=(const SignalWatcher&) = delete;

  // Waits for the first signal.
  void Wait() { first_.WaitForNotification(); }
  bool signalled() const { return first_.HasBeenNotified(); }

 private:
  SignalWatcher(int read_fd, int write_fd, std::function<void(int)> on_first);
  void Watch();

  // A pipe that the handler writes each signal's number into, and the destructor 0.
  const int read_fd_;
  const int write_fd_;
  const std::function<void(int)> on_first_;
  absl::Notification first_;
  std::thread drainer_;  // runs on_first_, so that the second signal is seen meanwhile
  std::thread watcher_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_SIGNALS_H_
