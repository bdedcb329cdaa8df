// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat_template/jinja_lexer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace ccoe::chat_template {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

TEST(JinjaLexerTest, CutsTagsIntoTokensWithTheirLines) {
  ASSERT_OK_AND_ASSIGN(const auto tokens, LexJinja("a\n{{ x['k\\n'] != 1.5 }}"));
  std::vector<std::string> texts;
  for (const JinjaToken& token : tokens) texts.push_back(token.text);
  EXPECT_THAT(texts, ::testing::ElementsAre("a\n", "", "x", "[", "k\n", "]", "!=", "1.5", "", ""));
  EXPECT_EQ(tokens[2].line, 2);
  EXPECT_EQ(tokens.back().kind, JinjaToken::Kind::kEnd);
}

TEST(JinjaLexerTest, NamesTheLineOfAnError) {
  const auto code = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(LexJinja("\n\n{{ x"), StatusIs(code, HasSubstr("line 3: a tag has no end")));
  EXPECT_THAT(LexJinja("{{ 'x }}"), StatusIs(code, HasSubstr("a string has no end")));
  EXPECT_THAT(LexJinja("{# x"), StatusIs(code, HasSubstr("comment")));
  EXPECT_THAT(LexJinja("{{ a ? b }}"), StatusIs(code, HasSubstr("found '?'")));
  EXPECT_THAT(LexJinja("{{ é }}"), StatusIs(code, HasSubstr("found 'é'")));
  EXPECT_THAT(LexJinja("{{ (] }}"), StatusIs(code, HasSubstr("closes nothing")));
  EXPECT_THAT(LexJinja("{{ '\\ud800' }}"), StatusIs(code, HasSubstr("not a character")));
  EXPECT_THAT(LexJinja("{{ 1x }}"), StatusIs(code));
  EXPECT_OK(LexJinja("{"));
  EXPECT_OK(LexJinja(""));
}

}  // namespace
}  // namespace ccoe::chat_template
