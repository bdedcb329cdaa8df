#include "runtime/tokenizer/regex_syntax.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

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
