// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat_template/jinja_evaluator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/chat_template/jinja_lexer.h"
#include "runtime/chat_template/jinja_parser.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::chat_template {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

absl::StatusOr<std::string> RunTemplate(const std::string& source, JinjaLimits limits = {}) {
  auto tokens = LexJinja(source);
  if (!tokens.ok()) return tokens.status();
  auto body = ParseJinja(*std::move(tokens));
  if (!body.ok()) return body.status();
  return EvaluateJinja(*body, {{"name", JinjaValue(std::string("x"))}}, limits);
}

TEST(JinjaEvaluatorTest, SeesItsVariables) {
  ASSERT_OK_AND_ASSIGN(const std::string text,
                       RunTemplate("{{ name }}{% for i in range(2) %}{{ i }}{% endfor %}"));
  EXPECT_EQ(text, "x01");
}

TEST(JinjaEvaluatorTest, NamesTheLineOfAnError) {
  EXPECT_THAT(RunTemplate("a\n{{ 1 + name }}"),
              StatusIs(kInvalid, HasSubstr("line 2: operator +")));
  EXPECT_THAT(RunTemplate("{% set name.x = 1 %}"),
              StatusIs(kInvalid, HasSubstr("not a namespace")));
  EXPECT_THAT(RunTemplate("{% for a, b in [1] %}{% endfor %}"),
              StatusIs(kInvalid, HasSubstr("expected 2 values")));
  EXPECT_THAT(RunTemplate("{{ name() }}"),
              StatusIs(kInvalid, HasSubstr("expected a function, found a string")));
  EXPECT_THAT(RunTemplate("{{ open() }}"),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("function 'open'")));
  EXPECT_THAT(RunTemplate("{{ {1: 2} }}"), StatusIs(kInvalid, HasSubstr("a dict's key")));
}

TEST(JinjaEvaluatorTest, StopsAtItsLimits) {
  const auto code = absl::StatusCode::kResourceExhausted;
  JinjaLimits limits;
  limits.max_output_bytes = 10;
  EXPECT_THAT(RunTemplate("{{ name ~ '0123456789' }}", limits),
              StatusIs(code, HasSubstr("more than 10 bytes")));
  const std::string loop = "{% for i in range(100000) %}";
  limits.max_steps = 300'000;
  EXPECT_THAT(RunTemplate(loop + loop + "{% endfor %}{% endfor %}", limits),
              StatusIs(code, HasSubstr("too many steps")));
  // Doubling a text or a list in each step.
  const std::string start = "{% set ns = namespace(t='xx', l=[1]) %}{% for i in range(100) %}";
  EXPECT_THAT(RunTemplate(start + "{% set ns.t = ns.t + ns.t %}{% endfor %}", limits),
              StatusIs(code));
  EXPECT_FALSE(RunTemplate(start + "{% set ns.l = ns.l + ns.l %}{% endfor %}", limits).ok());
  EXPECT_FALSE(RunTemplate(start + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}", limits).ok());
}

}  // namespace
}  // namespace ccoe::chat_template
