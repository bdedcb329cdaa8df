#include "runtime/tokenizer/byte_alphabet.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ccoe::tokenizer {
namespace {

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
