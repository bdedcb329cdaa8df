#include "runtime/tokenizer/split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;

std::vector<std::string> Cut(const std::string& text, SplitBehavior behavior, bool invert = false) {
  absl::StatusOr<Pattern> pattern = Pattern::Literal("-");
  EXPECT_OK(pattern);
  const SplitRule rule{*std::move(pattern), behavior, invert};
  const absl::StatusOr<std::vector<absl::string_view>> parts = Split(text, rule);
  EXPECT_OK(parts);
  return std::vector<std::string>(parts->begin(), parts->end());
}

// The sample of the library's own documentation.
constexpr char kText[] = "the-final--countdown";

TEST(SplitTest, CutsInEachWay) {
  EXPECT_THAT(Cut(kText, SplitBehavior::kRemoved), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(Cut(kText, SplitBehavior::kIsolated),
              ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(Cut(kText, SplitBehavior::kMergedWithPrevious),
              ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(Cut(kText, SplitBehavior::kMergedWithNext),
              ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(Cut(kText, SplitBehavior::kContiguous),
              ElementsAre("the", "-", "final", "--", "countdown"));
}

TEST(SplitTest, TakesWhatLiesBetweenWhenInverted) {
  EXPECT_THAT(Cut(kText, SplitBehavior::kRemoved, true), ElementsAre("-", "-", "-"));
  EXPECT_THAT(Cut(kText, SplitBehavior::kIsolated, true),
              ElementsAre("the", "-", "final", "-", "-", "countdown"));
}

TEST(SplitTest, HandlesTheEnds) {
  EXPECT_THAT(Cut("", SplitBehavior::kIsolated), ElementsAre());
  EXPECT_THAT(Cut("-a-", SplitBehavior::kMergedWithPrevious), ElementsAre("-", "a-"));
  EXPECT_THAT(Cut("-a-", SplitBehavior::kMergedWithNext), ElementsAre("-a", "-"));
}

TEST(SplitTest, RefusesUnknownBehaviors) {
  EXPECT_OK(ParseSplitBehavior("Contiguous", ""));
  EXPECT_THAT(ParseSplitBehavior("contiguous", "here"),
              StatusIs(absl::StatusCode::kInvalidArgument, ::testing::HasSubstr("'contiguous'")));
}

}  // namespace
}  // namespace ccoe::tokenizer
