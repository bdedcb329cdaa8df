// SPDX-License-Identifier: Apache-2.0
// Whatever the text: golden tokenizers take what is UTF-8 and nothing else, those over bytes give
// every byte back, and time does not grow faster than the text.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "rapidcheck/gtest.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/unicode.h"
#include "tests/runtime/tokenizer/golden_cases.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

// Whether the style gives back every byte it took; qwen2 composes characters first.
bool IsByteLevel(const std::string& style) { return style != "spm" && style != "qwen2"; }

// Blanks, ASCII and characters from all over, each as UTF-8.
std::vector<std::string> AnyCharacters() {
  const auto character = rc::gen::map(
      rc::gen::oneOf(rc::gen::inRange<uint32_t>(0, 0x80), rc::gen::inRange<uint32_t>(0x80, 0x800),
                     rc::gen::inRange<uint32_t>(0x800, 0xD800),
                     rc::gen::inRange<uint32_t>(0xE000, 0x110000),
                     rc::gen::elementOf(std::vector<uint32_t>{' ', '\n', '\t', '\'', '1', '<'})),
      [](uint32_t code_point) {
        std::string bytes;
        AppendUtf8(static_cast<char32_t>(code_point), bytes);
        return bytes;
      });
  return *rc::gen::container<std::vector<std::string>>(character).as("characters");
}

std::string Joined(const std::vector<std::string>& characters) {
  std::string text;
  for (const std::string& character : characters) text += character;
  return text;
}

class TokenizerPropertyTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { ASSERT_NE(tokenizer_ = LoadGolden(GetParam()), nullptr); }

  std::shared_ptr<const Tokenizer> tokenizer_;
};

TEST_P(TokenizerPropertyTest, UnicodeIsTaken) {
  EXPECT_TRUE(rc::check("text of characters", [this] {
    const std::string text = Joined(AnyCharacters());
    const auto ids = tokenizer_->Encode(text, true);
    RC_ASSERT(ids.ok());
    RC_ASSERT(tokenizer_->Decode(*ids, true).ok());
  }));
}

TEST_P(TokenizerPropertyTest, OtherBytesAreRefusedWithTheirPlace) {
  EXPECT_TRUE(rc::check("text with one byte that is none", [this] {
    std::vector<std::string> characters = AnyCharacters();
    const auto at = *rc::gen::inRange<size_t>(0, characters.size() + 1).as("place");
    const std::string before =
        Joined({characters.begin(), characters.begin() + static_cast<std::ptrdiff_t>(at)});
    characters.insert(characters.begin() + static_cast<std::ptrdiff_t>(at),
                      *rc::gen::elementOf(std::vector<std::string>{"\xFF", "\xC0\x80", "\x80",
                                                                   "\xED\xA0\x80", "\xF5"}));
    const auto ids = tokenizer_->Encode(Joined(characters), true);
    RC_ASSERT(ids.status().code() == absl::StatusCode::kInvalidArgument);
    const std::string message(ids.status().message());
    RC_ASSERT(message.find(absl::StrCat("at byte ", before.size())) != std::string::npos);
  }));
}

TEST_P(TokenizerPropertyTest, ByteLevelDecodesWhatItEncoded) {
  if (!IsByteLevel(GetParam())) GTEST_SKIP() << "does not work on bytes";
  EXPECT_TRUE(rc::check("text of characters", [this] {
    const std::string text = Joined(AnyCharacters());
    const auto ids = tokenizer_->Encode(text, false);
    RC_ASSERT(ids.ok());
    const auto decoded = tokenizer_->Decode(*ids, false);
    RC_ASSERT(decoded.ok());
    RC_ASSERT(*decoded == text);
  }));
}

TEST_P(TokenizerPropertyTest, LongUniformTextsTakeNoQuadraticTime) {
  for (const char* unit : {" ", "a", "\n", "1", ".", "e\u0301", "<|"}) {
    std::string text;
    while (text.size() < 100'000) text += unit;
    // In quadratic time one of these takes longer than the whole test may.
    ASSERT_OK_AND_ASSIGN(const Ids ids, tokenizer_->Encode(text, false));
    EXPECT_GT(ids.size(), 0u) << "'" << unit << "'";
    EXPECT_LE(ids.size(), text.size() + 3) << "'" << unit << "'";
    if (!IsByteLevel(GetParam())) continue;
    ASSERT_OK_AND_ASSIGN(const std::string decoded, tokenizer_->Decode(ids, false));
    EXPECT_TRUE(decoded == text) << "'" << unit << "'";
  }
}

INSTANTIATE_TEST_SUITE_P(Styles, TokenizerPropertyTest, ::testing::ValuesIn(Styles()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace ccoe::tokenizer
