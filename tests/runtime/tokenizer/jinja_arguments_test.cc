#include "runtime/tokenizer/jinja_arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

using ::ccoe::testing::StatusIs;
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

}  // namespace
}  // namespace ccoe::tokenizer
