// SPDX-License-Identifier: Apache-2.0
#include "runtime/tokenizer/added_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Json = nlohmann::json;

// The segments' texts, those of tokens in brackets.
std::vector<std::string> Segments(const std::string& list, const std::string& text,
                                  bool normalized = false) {
  const auto normalizer = Normalizer::Create(Json::parse(R"({"type":"Lowercase"})"));
  EXPECT_OK(normalizer);
  const auto added = AddedTokens::Create(Json::parse(list), Vocabulary(), *normalizer);
  EXPECT_OK(added);
  std::vector<std::string> found;
  for (const AddedTokens::Segment& segment : added->Split(text, normalized)) {
    const std::string part = text.substr(segment.begin, segment.end - segment.begin);
    found.push_back(segment.token == nullptr ? part : "[" + part + "]");
  }
  return found;
}

TEST(AddedTokensTest, CutsTextAtTokens) {
  const std::string list =
      R"([{"id":5,"content":"<s>","special":true},{"id":6,"content":"<s>x","special":true}])";
  EXPECT_THAT(Segments(list, "a<s>b<s>x"), ElementsAre("a", "[<s>]", "b", "[<s>x]"));
  EXPECT_THAT(Segments(list, ""), ElementsAre());
  EXPECT_THAT(Segments("null", "a"), ElementsAre("a"));
}

TEST(AddedTokensTest, TakesWhiteSpaceAlong) {
  EXPECT_THAT(
      Segments(R"([{"id":5,"content":"<m>","normalized":false,"lstrip":true}])", "a  <m> b"),
      ElementsAre("a", "[  <m>]", " b"));
  EXPECT_THAT(
      Segments(R"([{"id":5,"content":"<m>","normalized":false,"rstrip":true}])", "a <m> \n<m>"),
      ElementsAre("a ", "[<m> \n]", "[<m>]"));
}

TEST(AddedTokensTest, KeepsSingleWordsOutOfOthers) {
  EXPECT_THAT(Segments(R"([{"id":5,"content":"am","normalized":false,"single_word":true}])",
                       "I am ham amé am"),
              ElementsAre("I ", "[am]", " ham amé ", "[am]"));
}

TEST(AddedTokensTest, FindsNormalizedTokensInNormalizedTextOnly) {
  const std::string list = R"([{"id":5,"content":"ABC","special":false,"normalized":true}])";
  EXPECT_THAT(Segments(list, "xabc", true), ElementsAre("x", "[abc]"));
  EXPECT_THAT(Segments(list, "xabc", false), ElementsAre("xabc"));
}

TEST(AddedTokensTest, RefusesContradictions) {
  Vocabulary model;
  ASSERT_OK(model.Add("a", 0));
  ASSERT_OK(model.Add("b", 1));
  const auto normalizer = Normalizer::Create(Json());
  ASSERT_OK(normalizer);
  for (const char* list :
       {R"([{"id":1,"content":"a"}])", R"([{"id":1,"content":"c"}])", R"([{"id":7,"content":"a"}])",
        R"([{"id":5,"content":"x"},{"id":5,"content":"y"}])",
        R"([{"id":5,"content":"x"},{"id":6,"content":"x"}])", R"([{"content":"x"}])",
        R"([{"id":5}])", R"([3])", R"({})", R"([{"id":99999999,"content":"x"}])"}) {
    EXPECT_THAT(AddedTokens::Create(Json::parse(list), model, *normalizer),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("added_tokens")))
        << list;
  }
  EXPECT_OK(AddedTokens::Create(Json::parse(R"([{"id":1,"content":"b"},{"id":2,"content":""}])"),
                                model, *normalizer));
}

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
