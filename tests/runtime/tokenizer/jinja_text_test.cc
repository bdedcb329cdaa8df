#include "runtime/tokenizer/jinja_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ccoe::tokenizer {
namespace {

using ::testing::ElementsAre;

TEST(JinjaTextTest, SlicesAsPythonDoes) {
  EXPECT_THAT(SlicePositions(5, 1, 3, 1), ElementsAre(1, 2));
  EXPECT_THAT(SlicePositions(5, -2, std::nullopt, 1), ElementsAre(3, 4));
  EXPECT_THAT(SlicePositions(3, std::nullopt, std::nullopt, -1), ElementsAre(2, 1, 0));
  EXPECT_THAT(SlicePositions(3, 9, -9, -2), ElementsAre(2, 0));
  EXPECT_THAT(SlicePositions(3, INT64_MIN, INT64_MAX, INT64_MAX), ElementsAre(0));
  EXPECT_THAT(SlicePositions(3, INT64_MAX, INT64_MIN, INT64_MIN), ElementsAre(2));
  EXPECT_THAT(SlicePositions(0, std::nullopt, std::nullopt, 1), ElementsAre());
}

TEST(JinjaTextTest, SplitsAsPythonDoes) {
  EXPECT_THAT(SplitText(" a  b ", std::nullopt, -1), ElementsAre("a", "b"));
  EXPECT_THAT(SplitText(" a  b c ", std::nullopt, 1), ElementsAre("a", "b c"));
  EXPECT_THAT(SplitText("a,,b", ",", -1), ElementsAre("a", "", "b"));
  EXPECT_THAT(SplitText("", ",", -1), ElementsAre(""));
  EXPECT_THAT(SplitText("", std::nullopt, -1), ElementsAre());
}

TEST(JinjaTextTest, StripsAndChangesCase) {
  EXPECT_EQ(StripText("\x1F a\u3000", std::nullopt, TextSide::kBoth), "a");
  EXPECT_EQ(StripText("éaé", "é", TextSide::kRight), "éa");
  EXPECT_EQ(StripText("xx", "x", TextSide::kBoth), "");
  EXPECT_EQ(UpperText("äß"), "ÄSS");
  EXPECT_EQ(CapitalizeText("éCOLE"), "École");
  EXPECT_EQ(TitleText("they're bill's"), "They'Re Bill'S");
}

}  // namespace
}  // namespace ccoe::tokenizer
