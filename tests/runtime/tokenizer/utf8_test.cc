#include "runtime/tokenizer/utf8.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace ccoe::tokenizer {
namespace {

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

}  // namespace
}  // namespace ccoe::tokenizer
