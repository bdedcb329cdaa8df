// SPDX-License-Identifier: Apache-2.0
#include "runtime/tokenizer/unicode.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

using ::ccoe::testing::StatusIs;

TEST(Utf8Test, FindsWhereTextStopsBeingValid) {
  EXPECT_EQ(ValidUtf8Prefix("a\xC3\xA9\xE6\x97\xA5\xF0\x9F\x91\xA9"), 10u);
  EXPECT_EQ(ValidUtf8Prefix("ab\xFF"), 2u);
  EXPECT_EQ(ValidUtf8Prefix("ab\xE6\x97"), 2u);
  EXPECT_EQ(ValidUtf8Prefix("\xC0\x80"), 0u) << "overlong";
  EXPECT_EQ(ValidUtf8Prefix("\xED\xA0\x80"), 0u) << "a surrogate";
  EXPECT_EQ(ValidUtf8Prefix("\xF4\x90\x80\x80"), 0u) << "past U+10FFFF";
  EXPECT_EQ(ValidUtf8Prefix(""), 0u);
}

TEST(Utf8Test, TellsIncompleteFromInvalid) {
  EXPECT_EQ(ScanUtf8("\xE6\x97").state, Utf8State::kIncomplete);
  EXPECT_EQ(ScanUtf8("\xE6").length, 1u);
  EXPECT_EQ(ScanUtf8("\xE6\x97g").state, Utf8State::kInvalid);
  EXPECT_EQ(ScanUtf8("\xE6\x97g").length, 2u) << "the maximal subpart";
  EXPECT_EQ(ScanUtf8("\x80").state, Utf8State::kInvalid);
}

TEST(Utf8Test, EncodesWhatItDecodes) {
  for (const char32_t code_point : {0x0, 0x7F, 0x80, 0x7FF, 0x800, 0xFFFD, 0x10000, 0x10FFFF}) {
    std::string text;
    AppendUtf8(code_point, text);
    EXPECT_EQ(DecodeUtf8(text, 0).code_point, code_point);
    EXPECT_EQ(DecodeUtf8(text, 0).length, text.size());
  }
}

TEST(Utf8Test, StripsCharactersFromEitherEnd) {
  EXPECT_EQ(StripLeft(" \xE3\x80\x80 a ", IsWhitespace), "a ");
  EXPECT_EQ(StripRight(" a\xC2\xA0\n", IsWhitespace), " a");
  EXPECT_EQ(StripLeft("  ", IsWhitespace), "");
  EXPECT_TRUE(IsWordCharacter(U'é'));
  EXPECT_TRUE(IsWordCharacter(U'_'));
  EXPECT_FALSE(IsWordCharacter(U'-'));
}

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

TEST(ByteAlphabetTest, WritesEachByteAsOneCharacter) {
  EXPECT_EQ(ToByteAlphabet(" a\n"), "ĠaĊ");
  EXPECT_EQ(FromByteAlphabet("ĠaĊ"), " a\n");
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all.push_back(static_cast<char>(byte));
  EXPECT_EQ(FromByteAlphabet(ToByteAlphabet(all)), all);
}

TEST(ByteAlphabetTest, LeavesTokensWithOtherCharactersAsTheyAre) {
  EXPECT_EQ(FromByteAlphabet("Ġ日"), "Ġ日");
  EXPECT_EQ(FromByteAlphabet("a b"), "a b");
  EXPECT_EQ(FromByteAlphabet(""), "");
}

}  // namespace
}  // namespace ccoe::tokenizer
