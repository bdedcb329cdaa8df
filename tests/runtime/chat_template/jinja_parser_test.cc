// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat_template/jinja_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace ccoe::chat_template {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

absl::Status ParseStatus(const std::string& source) {
  auto tokens = LexJinja(source);
  if (!tokens.ok()) return tokens.status();
  return ParseJinja(*std::move(tokens)).status();
}

TEST(JinjaParserTest, BuildsTheTree) {
  auto tokens = LexJinja("{% for a, b in x if c %}t{% else %}e{% endfor %}{% set n.m = 1 %}");
  ASSERT_OK(tokens);
  ASSERT_OK_AND_ASSIGN(const auto body, ParseJinja(*std::move(tokens)));
  ASSERT_EQ(body.size(), 2u);
  EXPECT_THAT(body[0].targets, ::testing::ElementsAre("a", "b"));
  EXPECT_NE(body[0].condition, nullptr);
  EXPECT_EQ(body[0].otherwise[0].text, "e");
  EXPECT_EQ(body[1].attribute, "m");
}

TEST(JinjaParserTest, NamesTheLineOfAnError) {
  EXPECT_THAT(ParseStatus("\n{% if a %}"), StatusIs(kInvalid, HasSubstr("expected {% endif %}")));
  EXPECT_THAT(ParseStatus("{% endif %}"),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("'endif'")));
  EXPECT_THAT(ParseStatus("\n{% macro f() %}"),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("line 2: statement 'macro'")));
  EXPECT_THAT(ParseStatus("{% break %}"), StatusIs(kInvalid, HasSubstr("outside of a loop")));
  EXPECT_THAT(ParseStatus("{% for 1 in x %}"), StatusIs(kInvalid, HasSubstr("a name")));
  EXPECT_THAT(ParseStatus("{% set x 1 %}"), StatusIs(kInvalid));
  EXPECT_THAT(ParseStatus("{% %}"), StatusIs(absl::StatusCode::kUnimplemented));
  std::string deep;
  for (int i = 0; i < 10'000; ++i) deep += "{% if a %}";
  EXPECT_THAT(ParseStatus(deep), StatusIs(kInvalid, HasSubstr("nested deeper")));
}

}  // namespace
}  // namespace ccoe::chat_template
