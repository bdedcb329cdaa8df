#include "runtime/tokenizer/jinja_functions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

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

}  // namespace
}  // namespace ccoe::tokenizer
