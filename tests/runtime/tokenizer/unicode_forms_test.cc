#include "runtime/tokenizer/unicode_forms.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

using ::ccoe::testing::StatusIs;

TEST(UnicodeFormsTest, ComposesAndDecomposes) {
  const std::string composed = "é ﬁ ²";
  ASSERT_OK_AND_ASSIGN(const std::string nfd, Normalize(composed, UnicodeForm::kNfd, 100));
  EXPECT_EQ(nfd, "e\u0301 ﬁ ²");
  ASSERT_OK_AND_ASSIGN(const std::string nfc, Normalize(nfd, UnicodeForm::kNfc, 100));
  EXPECT_EQ(nfc, composed);
  ASSERT_OK_AND_ASSIGN(const std::string nfkc, Normalize(nfd, UnicodeForm::kNfkc, 100));
  EXPECT_EQ(nfkc, "é fi 2");
  ASSERT_OK_AND_ASSIGN(const std::string nfkd, Normalize(composed, UnicodeForm::kNfkd, 100));
  EXPECT_EQ(nfkd, "e\u0301 fi 2");
  ASSERT_OK_AND_ASSIGN(const std::string hangul,
                       Normalize("\u1112\u1161\u11ab", UnicodeForm::kNfc, 9));
  EXPECT_EQ(hangul, "한");
}

TEST(UnicodeFormsTest, OrdersMarksAndBearsLongRunsOfThem) {
  ASSERT_OK_AND_ASSIGN(const std::string text, Normalize("q\u0307\u0323", UnicodeForm::kNfd, 9));
  EXPECT_EQ(text, "q\u0323\u0307");
  std::string marks = "q";
  for (int i = 0; i < 100'000; ++i) marks += i % 2 == 0 ? "\u0307" : "\u0323";
  ASSERT_OK_AND_ASSIGN(const std::string ordered, Normalize(marks, UnicodeForm::kNfd, 200'000));
  EXPECT_EQ(ordered.size(), marks.size());
  EXPECT_EQ(ordered.substr(0, 5), "q\u0323\u0323");
}

TEST(UnicodeFormsTest, RefusesTextThatGrowsPastTheLimit) {
  EXPECT_THAT(Normalize("\uFDFA\uFDFA", UnicodeForm::kNfkd, 20),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(UnicodeFormsTest, LowersEachCharacterByItself) {
  EXPECT_EQ(Lowercase("ÄBC İ Σ"), "äbc i\u0307 σ");
}

}  // namespace
}  // namespace ccoe::tokenizer
