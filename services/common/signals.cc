// SPDX-License-Identifier: Apache-2.0
#include "services/common/signals.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace ccoe::services {
namespace {

absl::Status SystemError(absl::string_view call, int number) {
  return absl::InternalError(absl::StrCat("signals: ", call, ": ", strerror(number)));
}

// Where the handler writes; -1: nobody watches.
std::atomic<int> handler_fd{-1};

// Only async-signal-safe calls.
void Handle(int number) {
  const int before = errno;
  const auto byte = static_cast<unsigned char>(number);
  // A full pipe holds more signals than anybody waits for.
  (void)!write(handler_fd.load(), &byte, 1);
  errno = before;
}

void SetAction(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int number : {SIGTERM, SIGINT}) sigaction(number, &action, nullptr);
}

}  // namespace

absl::StatusOr<std::unique_ptr<SignalWatcher>> SignalWatcher::Create(
    std::function<void(int)> on_first) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return SystemError("pipe2", errno);
  fcntl(fds[1], F_SETFL, O_NONBLOCK);  // a handler must not wait
  int nobody = -1;
  if (!handler_fd.compare_exchange_strong(nobody, fds[1])) {
    close(fds[0]);
    close(fds[1]);
    return absl::AlreadyExistsError("signals: this process has a watcher");
  }
  signal(SIGPIPE, SIG_IGN);
  SetAction(Handle);
  return std::unique_ptr<SignalWatcher>(new SignalWatcher(fds[0], fds[1], std::move(on_first)));
}

SignalWatcher::SignalWatcher(int read_fd, int write_fd, std::function<void(int)> on_first)
    : read_fd_(read_fd), write_fd_(write_fd), on_first_(std::move(on_first)) {
  watcher_ = std::thread([this] { Watch(); });
}

SignalWatcher::~SignalWatcher() {
  SetAction(SIG_DFL);
  const unsigned char stop = 0;
  (void)!write(write_fd_, &stop, 1);
  watcher_.join();
  if (drainer_.joinable()) drainer_.join();
  handler_fd.store(-1);
  close(read_fd_);
  close(write_fd_);
}

void SignalWatcher::Watch() {
  unsigned char byte = 0;
  while (true) {
    const ssize_t got = read(read_fd_, &byte, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got != 1 || byte == 0) return;
    const int number = byte;
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
