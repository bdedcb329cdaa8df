#include "services/cli/progress.h"

#include <string>

#include "gtest/gtest.h"

namespace ccoe::cli {
namespace {

TEST(ProgressLineTest, FillsWithTheWorkDone) {
  EXPECT_EQ(ProgressLine("load", 0, 4), "load [>                             ] 0/4");
  EXPECT_EQ(ProgressLine("load", 2, 4), "load [===============>              ] 2/4");
  EXPECT_EQ(ProgressLine("load", 4, 4), "load [==============================] 4/4");
}

TEST(ProgressLineTest, StaysInsideALineWhateverItIsGiven) {
  EXPECT_LE(ProgressLine(std::string(200, 'x'), 5, 3).size(), 80u);
  EXPECT_LE(ProgressLine("x", -5, 0).size(), 80u);
}

}  // namespace
}  // namespace ccoe::cli
