// SPDX-License-Identifier: Apache-2.0
#include "services/launcher/child_process.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

absl::StatusOr<std::unique_ptr<ChildProcess>> Shell(const std::string& script) {
  return ChildProcess::Start("child", "/bin/sh", {"-c", script});
}

absl::Time Patience() { return absl::Now() + absl::Minutes(1); }

TEST(ChildProcessTest, ReadsTheAnnouncementAndTheEnd) {
  ASSERT_OK_AND_ASSIGN(const auto child, Shell("echo here and there > /dev/fd/20; exit 0"));
  ASSERT_OK_AND_ASSIGN(const std::string line, child->ReadAnnouncement(Patience()));
  EXPECT_EQ(line, "here and there");
  ASSERT_TRUE(child->WaitUntil(Patience()));
  EXPECT_EQ(child->Poll(), "exit code 0");
  EXPECT_TRUE(child->ended_well());
}

TEST(ChildProcessTest, FilesOfAnySizeAreThereForTheChildAlone) {
  ChildSettings settings;
  settings.files = {"first", std::string(300000, 'x')};
  ASSERT_OK_AND_ASSIGN(
      const auto child,
      ChildProcess::Start("child", "/bin/sh",
                          {"-c", absl::StrCat("echo $(cat ", ChildFilePath(0), ") $(wc -c < ",
                                              ChildFilePath(1), ") > /dev/fd/20")},
                          settings));
  ASSERT_OK_AND_ASSIGN(const std::string line, child->ReadAnnouncement(Patience()));
  EXPECT_EQ(line, "first 300000");
}

TEST(ChildProcessTest, TheEnvironmentIsOursButForWhatIsHiddenAndAdded) {
  setenv("CHILD_TEST_HIDDEN", "1", 1);
  setenv("CHILD_TEST_KEPT", "2", 1);
  setenv("CHILD_TEST_SET", "3", 1);
  ChildSettings settings;
  settings.environment = {"CHILD_TEST_SET=4"};
  settings.hides = [](absl::string_view name) { return name == "CHILD_TEST_HIDDEN"; };
  ASSERT_OK_AND_ASSIGN(
      const auto child,
      ChildProcess::Start(
          "child", "/bin/sh",
          {"-c", "echo [$CHILD_TEST_HIDDEN$CHILD_TEST_KEPT$CHILD_TEST_SET] > /dev/fd/20"},
          settings));
  ASSERT_OK_AND_ASSIGN(const std::string line, child->ReadAnnouncement(Patience()));
  EXPECT_EQ(line, "[24]");
}

TEST(ChildProcessTest, ListsOfProcessesShowItsName) {
  ASSERT_OK_AND_ASSIGN(const auto child,
                       ChildProcess::Start("expert-7", "/bin/sh", {"-c", "echo $0 > /dev/fd/20"}));
  ASSERT_OK_AND_ASSIGN(const std::string line, child->ReadAnnouncement(Patience()));
  EXPECT_EQ(line, "sh[expert-7]");
}

TEST(ChildProcessTest, SaysThatTheChildDiedBeforeItWasReady) {
  ASSERT_OK_AND_ASSIGN(const auto child, Shell("exit 7"));
  EXPECT_THAT(child->ReadAnnouncement(Patience()).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("child (process"), HasSubstr("exit code 7"))));
  EXPECT_FALSE(child->ended_well());
}

TEST(ChildProcessTest, AProgramThatIsNotThereDiesAtOnce) {
  ASSERT_OK_AND_ASSIGN(const auto child, ChildProcess::Start("child", "/no/such/program", {}));
  EXPECT_THAT(child->ReadAnnouncement(Patience()).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("exit code 127")));
}

TEST(ChildProcessTest, ASilentChildIsNotWaitedForForEver) {
  ASSERT_OK_AND_ASSIGN(const auto child, Shell("exec sleep 600"));
  EXPECT_THAT(child->ReadAnnouncement(absl::Now() + absl::Milliseconds(20)).status(),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
}

TEST(ChildProcessTest, SignalsReachTheChildWithAnEmptyMask) {
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  sigset_t before;
  pthread_sigmask(SIG_BLOCK, &term, &before);
  ASSERT_OK_AND_ASSIGN(const auto child, Shell("echo up > /dev/fd/20; exec sleep 600"));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ASSERT_OK(child->ReadAnnouncement(Patience()));
  EXPECT_FALSE(child->Poll().has_value());
  child->Signal(SIGTERM);
  ASSERT_TRUE(child->WaitUntil(Patience()));
  EXPECT_EQ(child->Poll(), "signal 15");
}

TEST(ChildProcessTest, DestructionKillsAndReaps) {
  pid_t pid;
  {
    ASSERT_OK_AND_ASSIGN(const auto child, Shell("exec sleep 600"));
    pid = child->pid();
  }
  EXPECT_EQ(kill(pid, 0), -1);
}

TEST(ChildProcessTest, TheChildDiesWithItsParent) {
  // A process in between starts the child, tells us its number, and is killed.
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  const pid_t between = fork();
  if (between == 0) {
    auto child = Shell("echo up > /dev/fd/20; exec sleep 600");
    const pid_t pid =
        child.ok() && (*child)->ReadAnnouncement(Patience()).ok() ? (*child)->pid() : -1;
    (void)!write(fds[1], &pid, sizeof(pid));
    pause();
    _exit(0);
  }
  pid_t child = -1;
  ASSERT_EQ(read(fds[0], &child, sizeof(child)), static_cast<ssize_t>(sizeof(child)));
  ASSERT_GT(child, 0);
  kill(between, SIGKILL);
  waitpid(between, nullptr, 0);
  const absl::Time deadline = Patience();
  // It stays as a zombie where nobody above reaps it, but it runs no more.
  const std::string stat = "/proc/" + std::to_string(child) + "/stat";
  const auto runs = [&stat] {
    FILE* file = fopen(stat.c_str(), "r");
    if (file == nullptr) return false;
    char state = 'Z';
    const bool read = fscanf(file, "%*d (%*[^)]) %c", &state) == 1;
    fclose(file);
    return read && state != 'Z' && state != 'X';
  };
  while (runs() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(2));
  EXPECT_FALSE(runs());
  close(fds[0]);
  close(fds[1]);
}

}  // namespace
}  // namespace ccoe::services
