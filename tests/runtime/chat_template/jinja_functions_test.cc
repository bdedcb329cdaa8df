// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat_template/jinja_functions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace ccoe::chat_template {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

JinjaValue Text(const char* text) { return JinjaValue(std::string(text)); }

TEST(JinjaArgumentsTest, FindsByPositionAndByName) {
  const JinjaArguments arguments{{Text("a")}, {{"n", JinjaValue(int64_t{3})}}};
  EXPECT_EQ(arguments.Find(0, "x")->AsString(), "a");
  EXPECT_EQ(arguments.Find(1, "n")->AsInteger(), 3);
  EXPECT_EQ(arguments.Find(1, "m"), nullptr);
  ASSERT_OK_AND_ASSIGN(const auto missing, arguments.String(1, "m", "f"));
  EXPECT_EQ(missing, std::nullopt);
}

TEST(JinjaArgumentsTest, RefusesOtherKindsAndSurplus) {
  const JinjaArguments arguments{{Text("a")}, {{"n", JinjaValue(int64_t{3})}}};
  EXPECT_THAT(arguments.Integer(0, "x", "f"),
              StatusIs(kInvalid, HasSubstr("f: expected an integer, found a string")));
  EXPECT_THAT(arguments.String(1, "n", "f"), StatusIs(kInvalid));
  EXPECT_THAT(arguments.Expect(0, {"n"}, "f"), StatusIs(kInvalid, HasSubstr("at most 0")));
  EXPECT_THAT(arguments.Expect(1, {}, "f"), StatusIs(kInvalid, HasSubstr("unknown argument 'n'")));
  EXPECT_OK(arguments.Expect(1, {"n"}, "f"));
}

TEST(JinjaFunctionsTest, RefusesWhatItCannotCall) {
  JinjaBudget budget(100'000);
  const JinjaValue text(std::string("x"));
  EXPECT_THAT(CallJinjaFunction("open", {}, budget),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("'open'")));
  EXPECT_THAT(CallJinjaFunction("range", {{JinjaValue(INT64_MAX)}, {}}, budget),
              StatusIs(kInvalid));
  EXPECT_THAT(CallJinjaFunction("range", {{text}, {}}, budget), StatusIs(kInvalid));
  EXPECT_THAT(CallJinjaMethod("format", text, {}, budget),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("'format' of a string")));
  EXPECT_THAT(CallJinjaMethod("strip", JinjaValue::MakeUndefined("x"), {}, budget),
              StatusIs(kInvalid, HasSubstr("'x'")));
  EXPECT_THAT(CallJinjaMethod("startswith", text, {}, budget), StatusIs(kInvalid));
  EXPECT_THAT(CallJinjaMethod("split", text, {{JinjaValue(std::string())}, {}}, budget),
              StatusIs(kInvalid));
}

TEST(JinjaFunctionsTest, MakesNamespacesThatChange) {
  JinjaBudget budget(100);
  ASSERT_OK_AND_ASSIGN(const JinjaValue made,
                       CallJinjaFunction("namespace", {{}, {{"a", JinjaValue(true)}}}, budget));
  EXPECT_TRUE(made.FindEntry("a")->Truthy());
  EXPECT_THAT(made.SetInNamespace("self", made), StatusIs(kInvalid));
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
}  // namespace ccoe::chat_template
