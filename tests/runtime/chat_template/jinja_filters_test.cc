// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat_template/jinja_filters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace ccoe::chat_template {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(JinjaFiltersTest, RefusesWrongInputsAndArguments) {
  JinjaBudget budget(100'000);
  const JinjaValue text(std::string("x"));
  EXPECT_THAT(ApplyJinjaFilter("trim", text, {{JinjaValue(int64_t{1})}, {}}, budget),
              StatusIs(kInvalid));
  EXPECT_THAT(ApplyJinjaFilter("length", JinjaValue(), {}, budget),
              StatusIs(kInvalid, HasSubstr("found none")));
  EXPECT_THAT(ApplyJinjaFilter("tojson", JinjaValue::MakeUndefined("u"), {}, budget),
              StatusIs(kInvalid));
  EXPECT_THAT(ApplyJinjaFilter("tojson", text, {{JinjaValue(int64_t{99})}, {}}, budget),
              StatusIs(kInvalid));
  EXPECT_THAT(ApplyJinjaFilter("tojson", text, {{}, {{"sort_keys", JinjaValue(true)}}}, budget),
              StatusIs(absl::StatusCode::kUnimplemented));
  EXPECT_THAT(ApplyJinjaFilter("items", text, {}, budget), StatusIs(kInvalid));
  EXPECT_THAT(ApplyJinjaFilter("map", text, {{JinjaValue(std::string("map"))}, {}}, budget),
              StatusIs(absl::StatusCode::kUnimplemented));
  EXPECT_THAT(ApplyJinjaFilter("nothing", text, {}, budget),
              StatusIs(absl::StatusCode::kUnimplemented));
  EXPECT_TRUE(IsJinjaFilter("trim"));
  EXPECT_FALSE(IsJinjaFilter("nothing"));
}

TEST(JinjaFiltersTest, ChangesText) {
  JinjaBudget budget(1000);
  ASSERT_OK_AND_ASSIGN(const JinjaValue value,
                       ApplyJinjaFilter("title", JinjaValue(std::string("ab cd")), {}, budget));
  EXPECT_EQ(value.AsString(), "Ab Cd");
}

TEST(JinjaTestsTest, ToldApartKinds) {
  const JinjaValue missing = JinjaValue::MakeUndefined("x");
  EXPECT_FALSE(ApplyJinjaTest("defined", missing, {}).value_or(true));
  EXPECT_TRUE(ApplyJinjaTest("none", JinjaValue(), {}).value_or(false));
  EXPECT_TRUE(ApplyJinjaTest("string", JinjaValue(std::string()), {}).value_or(false));
  EXPECT_TRUE(
      ApplyJinjaTest("eq", JinjaValue(true), {{JinjaValue(int64_t{1})}, {}}).value_or(false));
}

TEST(JinjaTestsTest, RefusesWrongArgumentsAndNames) {
  EXPECT_THAT(ApplyJinjaTest("defined", JinjaValue(), {{JinjaValue()}, {}}), StatusIs(kInvalid));
  EXPECT_THAT(ApplyJinjaTest("eq", JinjaValue(), {}),
              StatusIs(kInvalid, HasSubstr("one argument")));
  EXPECT_THAT(ApplyJinjaTest("lt", JinjaValue(), {{JinjaValue()}, {}}), StatusIs(kInvalid));
  EXPECT_THAT(ApplyJinjaTest("odd one", JinjaValue(), {}),
              StatusIs(absl::StatusCode::kUnimplemented));
  EXPECT_FALSE(IsJinjaTest("odd one"));
}

}  // namespace
}  // namespace ccoe::chat_template
