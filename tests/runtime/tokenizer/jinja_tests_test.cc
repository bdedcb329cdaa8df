#include "runtime/tokenizer/jinja_tests.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

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
}  // namespace ccoe::tokenizer
