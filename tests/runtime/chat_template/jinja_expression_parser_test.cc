// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat_template/jinja_expression_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/chat_template/jinja_lexer.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::chat_template {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

absl::Status ParseStatus(const std::string& expression) {
  auto tokens = LexJinja("{{" + expression + "}}");
  if (!tokens.ok()) return tokens.status();
  JinjaTokenStream stream(*std::move(tokens));
  stream.Take();
  return JinjaExpressionParser(stream).Parse().status();
}

std::string Repeat(const std::string& text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

TEST(JinjaExpressionParserTest, BindsAFilterTighterThanASum) {
  auto tokens = LexJinja("{{ a + b | trim + c }}");
  ASSERT_OK(tokens);
  JinjaTokenStream stream(*std::move(tokens));
  stream.Take();
  ASSERT_OK_AND_ASSIGN(const auto sum, JinjaExpressionParser(stream).Parse());
  ASSERT_EQ(sum->kind, JinjaExpression::Kind::kBinary);
  const JinjaExpression& left = *sum->children[0];
  ASSERT_EQ(left.kind, JinjaExpression::Kind::kBinary);
  EXPECT_EQ(left.children[1]->kind, JinjaExpression::Kind::kFilter);
}

TEST(JinjaExpressionParserTest, NamesWhatItExpectedAndFound) {
  EXPECT_THAT(ParseStatus("\n a +"),
              StatusIs(kInvalid, HasSubstr("line 2: expected an expression, found }}")));
  EXPECT_THAT(ParseStatus("[1 2]"), StatusIs(kInvalid, HasSubstr("expected ',', found '2'")));
  EXPECT_THAT(ParseStatus("a.1"), StatusIs(kInvalid, HasSubstr("a name after '.'")));
  EXPECT_THAT(ParseStatus("a[]"), StatusIs(kInvalid));
  EXPECT_THAT(ParseStatus("a[1:2:3:4]"), StatusIs(kInvalid));
  EXPECT_THAT(ParseStatus("99999999999999999999"), StatusIs(kInvalid, HasSubstr("too large")));
  EXPECT_THAT(ParseStatus("a | nothing"),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("filter 'nothing'")));
  EXPECT_THAT(ParseStatus("a is nothing"),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("test 'nothing'")));
}

TEST(JinjaExpressionParserTest, BoundsTheDepthOfTrees) {
  EXPECT_OK(ParseStatus(Repeat("(", 40) + "a" + Repeat(")", 40)));
  EXPECT_THAT(ParseStatus(Repeat("(", 100'000) + "a"), StatusIs(kInvalid));
  EXPECT_THAT(ParseStatus("a" + Repeat("+a", 100'000)), StatusIs(kInvalid, HasSubstr("deeper")));
  EXPECT_THAT(ParseStatus("a" + Repeat(".a", 100'000)), StatusIs(kInvalid));
  EXPECT_THAT(ParseStatus("a" + Repeat("|trim", 100'000)), StatusIs(kInvalid));
  EXPECT_THAT(ParseStatus(Repeat("not ", 100'000) + "a"), StatusIs(kInvalid));
  EXPECT_THAT(ParseStatus(Repeat("-", 100'000) + "a"), StatusIs(kInvalid));
  EXPECT_THAT(ParseStatus(Repeat("a if b else ", 100'000) + "a"), StatusIs(kInvalid));
}

}  // namespace
}  // namespace ccoe::chat_template
