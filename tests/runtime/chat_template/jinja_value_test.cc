// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat_template/jinja_value.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace ccoe::chat_template {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(JinjaValueTest, KeepsValuesFinite) {
  JinjaValue nested;
  absl::Status status;
  int depth = 0;
  for (; status.ok() && depth < 1000; ++depth) {
    absl::StatusOr<JinjaValue> next = JinjaValue::MakeList({nested, nested});
    status = next.status();
    if (next.ok()) nested = *std::move(next);
  }
  EXPECT_LE(depth, 65);
  EXPECT_EQ(status.code(), kInvalid);
  EXPECT_THAT(JinjaValue::MakeList({JinjaValue::MakeNamespace()}),
              StatusIs(kInvalid, HasSubstr("namespace")));
  JinjaValue::Dict large;
  for (int i = 0; i < 2000; ++i) large.emplace_back(std::to_string(i), JinjaValue());
  EXPECT_THAT(JinjaValue::MakeDict(std::move(large)), StatusIs(kInvalid, HasSubstr("1024")));
}

TEST(JinjaValueTest, PrintsAsPythonDoes) {
  ASSERT_OK_AND_ASSIGN(
      const JinjaValue list,
      JinjaValue::MakeList({JinjaValue(std::string("a'\n\x01")), JinjaValue(1e20), JinjaValue()}));
  EXPECT_EQ(JinjaText(list), "[\"a'\\n\\x01\", 1e+20, None]");
  EXPECT_EQ(JinjaText(JinjaValue::MakeUndefined("x")), "");
  ASSERT_OK_AND_ASSIGN(const std::string json, JinjaJson(list, -1));
  EXPECT_EQ(json, "[\"a'\\n\\u0001\", 1e+20, null]");
}

TEST(JinjaValueTest, ComparesByContent) {
  EXPECT_TRUE(JinjaEquals(JinjaValue(true), JinjaValue(1.0)));
  EXPECT_FALSE(JinjaEquals(JinjaValue(), JinjaValue(false)));
  EXPECT_TRUE(JinjaEquals(JinjaValue::MakeUndefined("a"), JinjaValue::MakeUndefined("b")));
}

TEST(JinjaValueTest, SpendsABudgetOnce) {
  JinjaBudget budget(2);
  EXPECT_OK(budget.Spend(2));
  EXPECT_THAT(budget.Spend(1), StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace ccoe::chat_template
