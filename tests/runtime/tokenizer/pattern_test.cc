// SPDX-License-Identifier: Apache-2.0
#include "runtime/tokenizer/pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

std::vector<std::string> Matches(const Pattern& pattern, const std::string& text) {
  const absl::StatusOr<std::vector<Pattern::Match>> matches = pattern.FindAll(text);
  EXPECT_OK(matches);
  std::vector<std::string> found;
  for (const Pattern::Match& match : *matches) {
    found.push_back(text.substr(match.begin, match.end - match.begin));
  }
  return found;
}

TEST(PatternTest, FindsLiteralsAsTheyAre) {
  ASSERT_OK_AND_ASSIGN(const Pattern pattern, Pattern::Literal("a.a"));
  EXPECT_THAT(Matches(pattern, "a.a.a axa a.a"), ::testing::ElementsAre("a.a", "a.a"));
}

TEST(PatternTest, FindsRegularExpressionsWithUnicodeAndLookAhead) {
  ASSERT_OK_AND_ASSIGN(const Pattern pattern, Pattern::Regex(R"(\p{L}+|\s+(?!\S)|\s+)"));
  EXPECT_THAT(Matches(pattern, "ä日  b \n"), ::testing::ElementsAre("ä日", " ", " ", "b", " \n"));
}

TEST(PatternTest, StepsOverEmptyMatches) {
  ASSERT_OK_AND_ASSIGN(const Pattern pattern, Pattern::Regex("x*"));
  EXPECT_THAT(Matches(pattern, "xxä"), ::testing::ElementsAre("xx", ""));
  EXPECT_THAT(Matches(pattern, ""), ::testing::ElementsAre(""));
}

TEST(PatternTest, ReplacesWithinBounds) {
  ASSERT_OK_AND_ASSIGN(const Pattern pattern, Pattern::Regex(" +"));
  ASSERT_OK_AND_ASSIGN(const std::string text, pattern.ReplaceAll("a  b c", "--", 100));
  EXPECT_EQ(text, "a--b--c");
  EXPECT_THAT(pattern.ReplaceAll("a b c", "----", 8), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(PatternTest, GivesUpOnEndlessBacktracking) {
  ASSERT_OK_AND_ASSIGN(const Pattern pattern, Pattern::Regex("(a|a)*[bc]"));
  EXPECT_THAT(pattern.FindAll(std::string(64, 'a')),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("gave up")));
}

TEST(PatternTest, RefusesWhatDoesNotCompile) {
  const auto code = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(Pattern::Regex("(a"), StatusIs(code, HasSubstr("does not compile")));
  EXPECT_THAT(Pattern::Regex(""), StatusIs(code));
  EXPECT_THAT(Pattern::Literal(""), StatusIs(code));
  EXPECT_THAT(Pattern::FromJson({{"Regex", "["}}, "here"), StatusIs(code, HasSubstr("here")));
  EXPECT_THAT(Pattern::FromJson({{"Other", "x"}}, "here"), StatusIs(code));
}

TEST(RegexSyntaxTest, EvensOutWhatTheEnginesReadDifferently) {
  ASSERT_OK_AND_ASSIGN(const std::string pattern,
                       TranslateOniguruma(R"(\s+(?!\S)|[^\s\h\]]|\h|\p{L}{1,3})"));
  EXPECT_EQ(
      pattern,
      R"(\p{White_Space}+(?!\P{White_Space})|[^\p{White_Space}0-9A-Fa-f\]]|[0-9A-Fa-f]|\p{L}{1,3})");
}

TEST(RegexSyntaxTest, KeepsWhatBothReadAlike) {
  for (const char* pattern :
       {"[]a]", "[^]a]", "[[:alpha:]x]", "a{2,}", "x\\", "(?i:'s)", "a&&b", ""}) {
    ASSERT_OK_AND_ASSIGN(const std::string found, TranslateOniguruma(pattern));
    EXPECT_EQ(found, pattern);
  }
}

TEST(RegexSyntaxTest, RefusesWhatWouldMeanSomethingElse) {
  for (const char* pattern : {"[a[bc]]", "[a&&b]", "a{1,3}+", "a{1,}+"}) {
    EXPECT_THAT(TranslateOniguruma(pattern),
                StatusIs(absl::StatusCode::kUnimplemented, HasSubstr(pattern)));
  }
}

}  // namespace
}  // namespace ccoe::tokenizer
