#include "services/cli/progress.h"

#include <cstdio>
#include <string>

#include "gtest/gtest.h"
#include "tests/testing/fake_clock.h"

namespace ccoe::cli {
namespace {

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

}  // namespace
}  // namespace ccoe::cli
