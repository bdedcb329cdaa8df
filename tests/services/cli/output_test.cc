// SPDX-License-Identifier: Apache-2.0
#include "services/cli/output.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <functional>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/cli/command.h"
#include "tests/testing/command_line.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

// What "say" prints; CLI registration functions take no state.
std::string said;
absl::Status result;

void RegisterSay(CLI::App& app, CommandContext& context) {
  AddCommand(app, context, "say", "Prints.", [] {
    std::cout << said;
    return result;
  });
}

// Standard output as `open` leaves it, until the end of the block.
class WithStandardOutput {
 public:
  explicit WithStandardOutput(const std::function<void()>& open) : saved_(::dup(STDOUT_FILENO)) {
    std::cout.flush();
    open();
  }
  ~WithStandardOutput() {
    ::dup2(saved_, STDOUT_FILENO);
    ::close(saved_);
  }

 private:
  const int saved_;
};

void ToFullDevice() {
  const int fd = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  ::dup2(fd, STDOUT_FILENO);
  ::close(fd);
}

void ToPipeWithoutReader() {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  ::dup2(ends[1], STDOUT_FILENO);
  ::close(ends[0]);
  ::close(ends[1]);
}

void ToNothing() { ::close(STDOUT_FILENO); }

// Runs `ccoe WORDS` with standard output as `open` leaves it.
testing::CommandOutput RunWith(const std::function<void()>& open,
                               const std::vector<const char*>& words) {
  static constexpr RegisterFunction kCommands[] = {RegisterSay};
  testing::CommandOutput output;
  ::testing::internal::CaptureStderr();
  {
    const WithStandardOutput redirected(open);
    output.exit_code = RunCommandLine(static_cast<int>(words.size()), words.data(), kCommands);
  }
  output.err = ::testing::internal::GetCapturedStderr();
  return output;
}

class OutputTest : public ::testing::Test {
 protected:
  OutputTest() {
    said = "hello\n";
    result = absl::OkStatus();
  }
};

TEST_F(OutputTest, ACommandWhoseOutputCannotBeWrittenExitsWith1AndSaysWhy) {
  const std::vector<std::pair<std::function<void()>, std::string>> cases = {
      {ToFullDevice, "No space left on device"},
      {ToPipeWithoutReader, "Broken pipe"},
      {ToNothing, "Bad file descriptor"}};
  for (const auto& [open, reason] : cases) {
    for (const size_t size : {size_t{6}, size_t{1} << 20}) {  // held back, and written on the way
      said = std::string(size, 'x');
      const auto output = RunWith(open, {"ccoe", "say"});
      EXPECT_EQ(output.exit_code, kExitFailed) << reason;
      EXPECT_EQ(output.err, "ccoe say: standard output: cannot be written: " + reason + "\n");
    }
  }
}

TEST_F(OutputTest, HelpThatCannotBeWrittenIsAnErrorToo) {
  const auto output = RunWith(ToFullDevice, {"ccoe", "say", "--help"});
  EXPECT_EQ(output.exit_code, kExitFailed);
  EXPECT_THAT(output.err, HasSubstr("ccoe say: standard output: cannot be written"));
}

TEST_F(OutputTest, ACommandThatPrintsNothingNeedsNoOutput) {
  said.clear();
  for (const auto& open : {ToFullDevice, ToPipeWithoutReader, ToNothing}) {
    const auto output = RunWith(open, {"ccoe", "say"});
    EXPECT_EQ(output.exit_code, kExitOk) << output.err;
  }
}

TEST_F(OutputTest, TheCommandsOwnErrorComesFirst) {
  result = absl::UnavailableError("nobody listens");
  const auto output = RunWith(ToFullDevice, {"ccoe", "say"});
  EXPECT_EQ(output.exit_code, kExitUnavailable);
  EXPECT_EQ(output.err, "ccoe say: nobody listens\n");
}

TEST_F(OutputTest, AFailureIsForgottenByTheNextCommand) {
  EXPECT_EQ(RunWith(ToFullDevice, {"ccoe", "say"}).exit_code, kExitFailed);
  said = std::string(200'000, 'y');
  const auto output = testing::RunCcoe({"say"}, {RegisterSay});
  EXPECT_EQ(output.exit_code, kExitOk) << output.err;
  EXPECT_TRUE(output.out == said);
}

TEST_F(OutputTest, AClosedDescriptorIsTakenSoThatNoFileGetsItsNumber) {
  int opened = -1;
  {
    const WithStandardOutput redirected(ToNothing);
    PrepareStandardOutput();
    opened = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  }
  EXPECT_GT(opened, STDERR_FILENO);
  ::close(opened);
}

TEST_F(OutputTest, AFlushSaysWhatFailed) {
  absl::Status full, after;
  {
    const WithStandardOutput redirected(ToFullDevice);
    PrepareStandardOutput();
    std::cout << "x";
    full = FlushStandardOutput();
  }
  std::cout << "lost";
  after = FlushStandardOutput();  // the output has a hole from here on
  PrepareStandardOutput();
  EXPECT_THAT(full, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("No space left")));
  EXPECT_THAT(after, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("No space left")));
  EXPECT_OK(FlushStandardOutput());
}

TEST(ProgressLineTest, FillsWithTheWorkDone) {
  EXPECT_EQ(ProgressLine("load", 0, 4), "load [>                             ] 0/4");
  EXPECT_EQ(ProgressLine("load", 2, 4), "load [===============>              ] 2/4");
  EXPECT_EQ(ProgressLine("load", 4, 4), "load [==============================] 4/4");
  EXPECT_EQ(ProgressLine("load", 4, 4, "now"), "load [==============================] 4/4 now");
}

TEST(ProgressLineTest, StaysInsideALineWhateverItIsGiven) {
  EXPECT_LE(ProgressLine(std::string(200, 'x'), 5, 3).size(), 80u);
  EXPECT_LE(ProgressLine("x", 5, 3, std::string(200, 'x')).size(), 80u);
  EXPECT_LE(ProgressLine("x", -5, 0).size(), 80u);
}

class ProgressTest : public ::testing::Test {
 protected:
  ProgressTest() : file_(std::tmpfile()) {}
  ~ProgressTest() override { std::fclose(file_); }

  std::string Written() {
    std::string text(static_cast<size_t>(std::ftell(file_)), '\0');
    std::rewind(file_);
    text.resize(std::fread(text.data(), 1, text.size(), file_));
    return text;
  }

  testing::FakeClock clock_;
  std::FILE* const file_;
};

TEST_F(ProgressTest, WritesALineNowAndThenWhereNobodyLooks) {
  {
    Progress progress("eval", 100, {file_, /*terminal=*/false, &clock_});
    progress.Update(1);
    clock_.Advance(absl::Seconds(11));
    progress.Update(20, "3 failed");
    progress.Update(21);
    clock_.Advance(absl::Seconds(11));
    progress.Update(100);
  }
  EXPECT_EQ(Written(), "eval: 20/100, 3 failed\neval: 100/100\n");
}

TEST_F(ProgressTest, DrawsABarOnATerminalAndClearsIt) {
  {
    Progress progress("eval", 100, {file_, /*terminal=*/true, &clock_});
    progress.Update(1);
    progress.Update(2);
  }
  const std::string text = Written();
  EXPECT_NE(text.find("1/100"), std::string::npos);
  EXPECT_EQ(text.find("2/100"), std::string::npos) << "drawn again at once";
  EXPECT_EQ(text.substr(text.size() - 82), "\r" + std::string(80, ' ') + "\r");
}

TEST(StatusLineTest, WritesPlainLinesWhereStderrIsNoTerminal) {
  ::testing::internal::CaptureStderr();
  {
    StatusLine line;
    line.Show("loading");
    line.Show("ready");
    line.Clear();
  }
  const std::string shown = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(shown, "loading\nready\n");
}

}  // namespace

}  // namespace ccoe::cli
