#include "services/cli/status_line.h"

#include "gtest/gtest.h"

namespace ccoe::cli {
namespace {

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
