// SIGTERM and SIGINT: the first drains, the second ends the process at once.
#ifndef CCOE_SERVICES_COMMON_SIGNALS_H_
#define CCOE_SERVICES_COMMON_SIGNALS_H_

#include <functional>
#include <memory>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"

namespace ccoe::services {

// One per process, made before any other thread: threads inherit the blocked signals. SIGPIPE is
// ignored from then on. Signals that wait for a debugger or the parent (SIGQUIT, ...) are left
// alone. Destruction stops the watching; the signals stay blocked.
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
  SignalWatcher(int signal_fd, int stop_fd, std::function<void(int)> on_first);
  void Watch();

  const int signal_fd_;
  const int stop_fd_;
  const std::function<void(int)> on_first_;
  absl::Notification first_;
  std::thread drainer_;  // runs on_first_, so that the second signal is seen meanwhile
  std::thread watcher_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_SIGNALS_H_
