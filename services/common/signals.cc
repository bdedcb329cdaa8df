#include "services/common/signals.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace ccoe::services {
namespace {

absl::Status SystemError(absl::string_view call, int number) {
  return absl::InternalError(absl::StrCat("signals: ", call, ": ", strerror(number)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<SignalWatcher>> SignalWatcher::Create(
    std::function<void(int)> on_first) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  if (const int error = pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0) {
    return SystemError("pthread_sigmask", error);
  }
  signal(SIGPIPE, SIG_IGN);
  const int signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
  if (signal_fd < 0) return SystemError("signalfd", errno);
  const int stop_fd = eventfd(0, EFD_CLOEXEC);
  if (stop_fd < 0) {
    const int error = errno;
    close(signal_fd);
    return SystemError("eventfd", error);
  }
  return std::unique_ptr<SignalWatcher>(new SignalWatcher(signal_fd, stop_fd, std::move(on_first)));
}

SignalWatcher::SignalWatcher(int signal_fd, int stop_fd, std::function<void(int)> on_first)
    : signal_fd_(signal_fd), stop_fd_(stop_fd), on_first_(std::move(on_first)) {
  watcher_ = std::thread([this] { Watch(); });
}

SignalWatcher::~SignalWatcher() {
  const uint64_t one = 1;
  // An eventfd takes its first write whole.
  if (write(stop_fd_, &one, sizeof(one)) != sizeof(one)) LOG(ERROR) << "signals: eventfd write";
  watcher_.join();
  if (drainer_.joinable()) drainer_.join();
  close(signal_fd_);
  close(stop_fd_);
}

void SignalWatcher::Watch() {
  pollfd files[2] = {{signal_fd_, POLLIN, 0}, {stop_fd_, POLLIN, 0}};
  while (true) {
    if (poll(files, 2, -1) < 0 && errno != EINTR) return;
    if (files[1].revents != 0) return;
    if (files[0].revents == 0) continue;
    signalfd_siginfo info;
    if (read(signal_fd_, &info, sizeof(info)) != sizeof(info)) continue;
    const int number = static_cast<int>(info.ssi_signo);
    if (first_.HasBeenNotified()) {
      LOG(WARNING) << "second signal (" << strsignal(number) << "): ending at once";
      _exit(128 + number);
    }
    LOG(INFO) << "signal (" << strsignal(number) << "): draining; a second one ends at once";
    if (on_first_) drainer_ = std::thread([this, number] { on_first_(number); });
    first_.Notify();
  }
}

}  // namespace ccoe::services
