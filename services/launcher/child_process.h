// SPDX-License-Identifier: Apache-2.0
// A process of ours that must not outlive us.
#ifndef CCOE_SERVICES_LAUNCHER_CHILD_PROCESS_H_
#define CCOE_SERVICES_LAUNCHER_CHILD_PROCESS_H_

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace ccoe::services {

struct ChildSettings {
  std::vector<std::string> environment;  // "NAME=value"; wins over this process's
  // Whether the child does not get this process's variable of this name. Unset: it gets all.
  std::function<bool(absl::string_view name)> hides;
  // Files with these contents, which exist in memory for the child alone: it reads them at
  // ChildFilePath(0), (1), ...
  std::vector<std::string> files;
};

// Descriptor that a child announces itself on. Its files are those after it; lower ones are its
// parent's, and may be named on a command line.
inline constexpr int kAnnounceFd = 20;

// Where a child finds the file of ChildSettings::files[index].
std::string ChildFilePath(size_t index);

// Used by one thread, which must live as long as the child shall: Linux kills the child when the
// thread that started it ends. Destruction kills the child, if it lives, and reaps it.
class ChildProcess {
 public:
  // Runs `program` with `arguments` in this process's environment; lists of processes show
  // "program[name]". The child gets the write end of a pipe as descriptor 3, on which it announces
  // itself with one line (see ReadAnnouncement), a process group of its own, and an empty signal
  // mask. INTERNAL names the system call.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(
      const std::string& name, const std::string& program,
      const std::vector<std::string>& arguments, const ChildSettings& settings = {});
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // The line that the child wrote, without its end. FAILED_PRECONDITION where the child died first
  // (it has said why on stderr); DEADLINE_EXCEEDED.
  absl::StatusOr<std::string> ReadAnnouncement(absl::Time deadline);

  void Signal(int signal);

  // How the child ended ("exit code 1", "signal 9"); nullopt while it runs. Does not wait.
  const std::optional<std::string>& Poll();

  // Waits; false where it still runs at `deadline`.
  bool WaitUntil(absl::Time deadline);

  const std::string& name() const { return name_; }
  pid_t pid() const { return pid_; }
  // True once it has ended with exit code 0.
  bool ended_well() const { return ended_well_; }

 private:
  ChildProcess(std::string name, pid_t pid, int announce_fd)
      : name_(std::move(name)), pid_(pid), announce_fd_(announce_fd) {}

  const std::string name_;
  const pid_t pid_;
  const int announce_fd_;
  std::optional<std::string> end_;
  bool ended_well_ = false;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_LAUNCHER_CHILD_PROCESS_H_
