// SPDX-License-Identifier: Apache-2.0
// Runs `ccoe` subcommands inside a test and keeps what they print.
#ifndef CCOE_TESTS_TESTING_COMMAND_LINE_H_
#define CCOE_TESTS_TESTING_COMMAND_LINE_H_

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "services/cli/command.h"

namespace ccoe::testing {

struct CommandOutput {
  int exit_code = 0;
  std::string out;
  std::string err;
};

// `words` after "ccoe".
inline CommandOutput RunCcoe(const std::vector<std::string>& words,
                             absl::Span<const cli::RegisterFunction> commands) {
  std::vector<const char*> argv = {"ccoe"};
  for (const std::string& word : words) argv.push_back(word.c_str());
  CommandOutput output;
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  output.exit_code = cli::RunCommandLine(static_cast<int>(argv.size()), argv.data(), commands);
  output.out = ::testing::internal::GetCapturedStdout();
  output.err = ::testing::internal::GetCapturedStderr();
  return output;
}

// A path in the test's own folder.
inline std::string TempPath(const std::string& name) {
  return std::string(std::getenv("TEST_TMPDIR")) + "/" + name;
}

inline std::string WriteTemp(const std::string& name, const std::string& content) {
  const std::string path = TempPath(name);
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_COMMAND_LINE_H_
