// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat_template/jinja_operators.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace ccoe::chat_template {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

class JinjaOperatorsTest : public ::testing::Test {
 protected:
  absl::StatusOr<JinjaValue> Binary(const std::string& op, JinjaValue left, JinjaValue right) {
    return JinjaBinary(op, left, right, budget_);
  }
  JinjaBudget budget_{1000};
};

TEST_F(JinjaOperatorsTest, RefusesWhatHasNoResult) {
  const JinjaValue least(INT64_MIN);
  const JinjaValue one(int64_t{1});
  const JinjaValue minus(int64_t{-1});
  const JinjaValue zero(int64_t{0});
  for (const char* op : {"/", "//", "%"}) {
    EXPECT_THAT(Binary(op, one, zero), StatusIs(kInvalid, HasSubstr("division by zero")));
  }
  EXPECT_THAT(Binary("-", least, one), StatusIs(kInvalid, HasSubstr("64 bits")));
  EXPECT_THAT(Binary("//", least, minus), StatusIs(kInvalid, HasSubstr("64 bits")));
  EXPECT_EQ(Binary("%", least, minus)->AsInteger(), 0);
  EXPECT_EQ(Binary("//", JinjaValue(int64_t{7}), minus)->AsInteger(), -7);
  EXPECT_THAT(Binary("*", JinjaValue(1e300), JinjaValue(1e300)), StatusIs(kInvalid));
  EXPECT_THAT(Binary("+", JinjaValue(std::string("a")), one),
              StatusIs(kInvalid, HasSubstr("a string and an integer")));
  EXPECT_THAT(Binary("+", one, JinjaValue::MakeUndefined("x")),
              StatusIs(kInvalid, HasSubstr("'x' is undefined")));
  EXPECT_THAT(CompareJinja("<", one, JinjaValue()), StatusIs(kInvalid));
  EXPECT_THAT(CompareJinja("in", one, one), StatusIs(kInvalid));
}

TEST_F(JinjaOperatorsTest, FindsEntriesAndItems) {
  ASSERT_OK_AND_ASSIGN(const JinjaValue dict, JinjaValue::MakeDict({{"a", JinjaValue(true)}}));
  EXPECT_TRUE(JinjaEntry(dict, "a")->Truthy());
  EXPECT_TRUE(JinjaEntry(dict, "b")->is_undefined());
  EXPECT_THAT(JinjaEntry(JinjaValue::MakeUndefined("x"), "a"),
              StatusIs(kInvalid, HasSubstr("'x'")));
  EXPECT_TRUE(
      JinjaItem(JinjaValue(std::string("ab")), JinjaValue(INT64_MIN), budget_)->is_undefined());
  EXPECT_THAT(JinjaSlice(dict, {}, {}, {}, budget_), StatusIs(kInvalid));
  EXPECT_THAT(JinjaSlice(JinjaValue(std::string("ab")), {}, {}, 0, budget_),
              StatusIs(kInvalid, HasSubstr("step")));
  EXPECT_THAT(JinjaItems(JinjaValue(), budget_), StatusIs(kInvalid));
  EXPECT_THAT(ReplaceJinja("a", "", "b", budget_), StatusIs(kInvalid));
}

TEST_F(JinjaOperatorsTest, StopsWhenTheBudgetIsSpent) {
  const JinjaValue text(std::string(100'000, 'x'));
  EXPECT_THAT(Binary("+", text, text), StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST(JinjaSliceTest, SlicesAsPythonDoes) {
  EXPECT_THAT(SlicePositions(5, 1, 3, 1), ElementsAre(1, 2));
  EXPECT_THAT(SlicePositions(5, -2, std::nullopt, 1), ElementsAre(3, 4));
  EXPECT_THAT(SlicePositions(3, std::nullopt, std::nullopt, -1), ElementsAre(2, 1, 0));
  EXPECT_THAT(SlicePositions(3, 9, -9, -2), ElementsAre(2, 0));
  EXPECT_THAT(SlicePositions(3, INT64_MIN, INT64_MAX, INT64_MAX), ElementsAre(0));
  EXPECT_THAT(SlicePositions(3, INT64_MAX, INT64_MIN, INT64_MIN), ElementsAre(2));
  EXPECT_THAT(SlicePositions(0, std::nullopt, std::nullopt, 1), ElementsAre());
}

}  // namespace
}  // namespace ccoe::chat_template
