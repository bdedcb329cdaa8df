#include "runtime/tokenizer/vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

TEST(VocabularyTest, FindsBothWaysAlsoAfterAMove) {
  Vocabulary first;
  ASSERT_OK(first.Add("a", 3));
  ASSERT_OK(first.Add("", 0));
  const Vocabulary moved = std::move(first);
  EXPECT_EQ(moved.Find("a"), 3);
  EXPECT_EQ(moved.Find("b"), std::nullopt);
  EXPECT_EQ(*moved.TokenOf(3), "a");
  EXPECT_EQ(moved.TokenOf(1), nullptr);
  EXPECT_EQ(moved.TokenOf(-1), nullptr);
  EXPECT_EQ(moved.TokenOf(4), nullptr);
  EXPECT_EQ(moved.size(), 4);
}

TEST(VocabularyTest, RefusesWhatIsTakenOrOutOfBounds) {
  const auto code = absl::StatusCode::kInvalidArgument;
  Vocabulary vocabulary;
  ASSERT_OK(vocabulary.Add("a", 1));
  EXPECT_THAT(vocabulary.Add("b", 1), StatusIs(code, HasSubstr("'a' and 'b'")));
  EXPECT_THAT(vocabulary.Add("a", 2), StatusIs(code, HasSubstr("two ids, 1 and 2")));
  EXPECT_THAT(vocabulary.Add("c", -1), StatusIs(code));
  EXPECT_THAT(vocabulary.Add("c", kMaxTokenIds), StatusIs(code));
  EXPECT_THAT(vocabulary.Add(std::string(kMaxTokenBytes + 1, 'x'), 5), StatusIs(code));
}

}  // namespace
}  // namespace ccoe::tokenizer
