#include "runtime/tokenizer/token_trie.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ccoe::tokenizer {
namespace {

TEST(TokenTrieTest, FindsTheLeftmostAndThenTheLongest) {
  TokenTrie trie;
  trie.Insert("<a>", 1);
  trie.Insert("<a>b", 2);
  trie.Insert("a>", 3);
  trie.Insert("<a>", 4);
  trie.Insert("", 5);
  const auto first = trie.Find("x<a>bc", 0);
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(first->value, 2);
  EXPECT_EQ(first->begin, 1u);
  EXPECT_EQ(first->end, 5u);
  EXPECT_EQ(trie.Find("<a>", 0)->value, 1) << "the first value stays";
  EXPECT_EQ(trie.Find("<a>", 1)->value, 3);
  EXPECT_FALSE(trie.Find("<a", 0).has_value());
  EXPECT_FALSE(trie.Find("", 0).has_value());
}

}  // namespace
}  // namespace ccoe::tokenizer
