// SPDX-License-Identifier: Apache-2.0
#include "services/launcher/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/status_macros.h"

namespace ccoe::services {
namespace {

constexpr size_t kLongestAnnouncement = 1024;

absl::Status SystemError(const char* call) {
  return absl::InternalError(absl::StrCat(call, ": ", std::strerror(errno)));
}

// Descriptors above those that the child gets, so that none is overwritten while they are moved.
constexpr int kLeastOwnFd = 32;

// A descriptor that this owns.
class OwnedFd {
 public:
  explicit OwnedFd(int fd) : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ~OwnedFd() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

absl::StatusOr<OwnedFd> MoveUp(OwnedFd fd) {
  OwnedFd moved(fcntl(fd.get(), F_DUPFD_CLOEXEC, kLeastOwnFd));
  if (moved.get() < 0) {
    return SystemError(
        "a descriptor for a child (more than 32 open files must be allowed: ulimit -n)");
  }
  return moved;
}

absl::StatusOr<OwnedFd> FileInMemory(absl::string_view content) {
  OwnedFd file(memfd_create("ccoe", MFD_CLOEXEC));
  if (file.get() < 0) return SystemError("memfd_create");
  while (!content.empty()) {
    const ssize_t written = write(file.get(), content.data(), content.size());
    if (written < 0 && errno != EINTR) return SystemError("write");
    if (written > 0) content.remove_prefix(static_cast<size_t>(written));
  }
  return MoveUp(std::move(file));
}

// What a child is made with, ready before the fork.
struct Prepared {
  std::vector<int> fds;  // become kAnnounceFd and those after it
  std::vector<char*> argv, envp;
};

// Between fork and exec of a process with threads: only async-signal-safe calls, no allocation.
[[noreturn]] void BecomeChild(pid_t parent, const char* program, const Prepared& child) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);  // it died before prctl
  setpgid(0, 0);  // a terminal's Ctrl-C reaches the parent alone, which then drains in order
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (size_t i = 0; i < child.fds.size(); ++i) {
    if (dup2(child.fds[i], kAnnounceFd + static_cast<int>(i)) < 0) _exit(127);
  }
  execve(program, child.argv.data(), child.envp.data());
  _exit(127);
}

std::vector<char*> Pointers(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  return pointers;
}

std::vector<char*> Environment(const ChildSettings& settings) {
  std::vector<char*> envp = Pointers(settings.environment);
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const absl::string_view text = *entry;
    const absl::string_view name = text.substr(0, text.find('='));
    // Of a name that stands there twice, some programs take the first and some the last.
    const bool replaced = std::any_of(
        settings.environment.begin(), settings.environment.end(),
        [name](absl::string_view added) { return added.substr(0, added.find('=')) == name; });
    if (!replaced && !(settings.hides && settings.hides(name))) envp.push_back(*entry);
  }
  envp.push_back(nullptr);
  return envp;
}

}  // namespace

std::string ChildFilePath(size_t index) {
  return absl::StrCat("/dev/fd/", kAnnounceFd + 1 + index);
}

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(
    const std::string& name, const std::string& program, const std::vector<std::string>& arguments,
    const ChildSettings& settings) {
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) return SystemError("pipe2");
  OwnedFd announcement(pipe_fds[0]);
  std::vector<OwnedFd> given;
  CCOE_ASSIGN_OR_RETURN(OwnedFd announce, MoveUp(OwnedFd(pipe_fds[1])));
  given.push_back(std::move(announce));
  for (const std::string& content : settings.files) {
    CCOE_ASSIGN_OR_RETURN(OwnedFd file, FileInMemory(content));
    given.push_back(std::move(file));
  }
  std::vector<std::string> all = {
      absl::StrCat(program.substr(program.rfind('/') + 1), "[", name, "]")};
  all.insert(all.end(), arguments.begin(), arguments.end());
  Prepared child;
  for (const OwnedFd& fd : given) child.fds.push_back(fd.get());
  child.argv = Pointers(all);
  child.argv.push_back(nullptr);
  child.envp = Environment(settings);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) BecomeChild(parent, program.c_str(), child);
  if (pid < 0) return SystemError("fork");
  return std::unique_ptr<ChildProcess>(new ChildProcess(name, pid, announcement.Release()));
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
