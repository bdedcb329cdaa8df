// SPDX-License-Identifier: Apache-2.0
#include "services/launcher/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace ccoe::services {
namespace {

constexpr size_t kLongestAnnouncement = 1024;

absl::Status SystemError(const char* call) {
  return absl::InternalError(absl::StrCat(call, ": ", std::strerror(errno)));
}

// Between fork and exec of a process with threads: only async-signal-safe calls, no allocation.
[[noreturn]] void BecomeChild(pid_t parent, int announce_fd, const char* program,
                              char* const* arguments, char* const* environment) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);  // it died before prctl
  setpgid(0, 0);  // a terminal's Ctrl-C reaches the parent alone, which then drains in order
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // dup2 onto itself would keep close-on-exec.
  if (announce_fd == kAnnounceFd) {
    fcntl(announce_fd, F_SETFD, 0);
  } else {
    dup2(announce_fd, kAnnounceFd);
  }
  execve(program, arguments, environment);
  _exit(127);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(
    const std::string& name, const std::string& program, const std::vector<std::string>& arguments,
    const std::vector<std::string>& environment) {
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) return SystemError("pipe2");
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  std::vector<char*> envp;
  // The first of two entries of a name counts.
  for (const std::string& entry : environment) envp.push_back(const_cast<char*>(entry.c_str()));
  for (char** entry = environ; *entry != nullptr; ++entry) envp.push_back(*entry);
  envp.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) BecomeChild(parent, pipe_fds[1], program.c_str(), argv.data(), envp.data());
  const absl::Status failed = pid < 0 ? SystemError("fork") : absl::OkStatus();
  close(pipe_fds[1]);
  if (!failed.ok()) {
    close(pipe_fds[0]);
    return failed;
  }
  return std::unique_ptr<ChildProcess>(new ChildProcess(name, pid, pipe_fds[0]));
}

ChildProcess::~ChildProcess() {
  close(announce_fd_);
  if (Poll().has_value()) return;
  kill(pid_, SIGKILL);
  WaitUntil(absl::InfiniteFuture());
}

absl::StatusOr<std::string> ChildProcess::ReadAnnouncement(absl::Time deadline) {
  std::string line;
  while (line.size() < kLongestAnnouncement) {
    const int64_t left_ms = absl::ToInt64Milliseconds(deadline - absl::Now());
    pollfd wait = {announce_fd_, POLLIN, 0};
    const int ready = poll(&wait, 1, static_cast<int>(std::clamp<int64_t>(left_ms, 0, 1000)));
    if (ready < 0 && errno != EINTR) return SystemError("poll");
    if (ready <= 0) {
      if (left_ms > 0) continue;
      return absl::DeadlineExceededError(
          absl::StrCat(name_, " (process ", pid_, ") did not start in time"));
    }
    char c;
    if (read(announce_fd_, &c, 1) != 1) break;  // it closed the pipe, usually by dying
    if (c == '\n') return line;
    line += c;
  }
  WaitUntil(absl::Now() + absl::Seconds(1));
  return absl::FailedPreconditionError(absl::StrCat(
      name_, " (process ", pid_, ") ended before it was ready: ", end_.value_or("it still runs")));
}

void ChildProcess::Signal(int signal) {
  if (!Poll().has_value()) kill(pid_, signal);
}

const std::optional<std::string>& ChildProcess::Poll() {
  int status = 0;
  if (end_.has_value() || waitpid(pid_, &status, WNOHANG) != pid_) return end_;
  if (WIFEXITED(status)) {
    ended_well_ = WEXITSTATUS(status) == 0;
    end_ = absl::StrCat("exit code ", WEXITSTATUS(status));
  } else {
    end_ = absl::StrCat("signal ", WTERMSIG(status));
  }
  return end_;
}

bool ChildProcess::WaitUntil(absl::Time deadline) {
  while (!Poll().has_value()) {
    if (absl::Now() >= deadline) return false;
    absl::SleepFor(absl::Milliseconds(10));
  }
  return true;
}

}  // namespace ccoe::services
