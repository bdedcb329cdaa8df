// SPDX-License-Identifier: Apache-2.0
#include "runtime/tokenizer/pre_tokenizer.h"

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

std::vector<std::string> Words(const std::string& json, const std::string& text,
                               bool at_start = true) {
  const absl::StatusOr<PreTokenizer> pre_tokenizer = PreTokenizer::Create(Json::parse(json));
  EXPECT_OK(pre_tokenizer);
  std::vector<Piece> pieces = {{text, at_start}};
  EXPECT_OK(pre_tokenizer->Apply(pieces));
  std::vector<std::string> words;
  for (const Piece& piece : pieces) words.push_back(piece.text);
  return words;
}

TEST(PreTokenizerTest, CutsByteLevelWords) {
  EXPECT_THAT(Words(R"({"type":"ByteLevel","add_prefix_space":true})", "Hi you's  é"),
              ElementsAre("ĠHi", "Ġyou", "'s", "Ġ", "ĠÃ©"));
  EXPECT_THAT(Words(R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":false})", "a b"),
              ElementsAre("aĠb"));
}

TEST(PreTokenizerTest, CutsTheSimpleKinds) {
  EXPECT_THAT(Words(R"({"type":"Digits"})", "a12b"), ElementsAre("a", "12", "b"));
  EXPECT_THAT(Words(R"({"type":"Digits","individual_digits":true})", "a12"),
              ElementsAre("a", "1", "2"));
  EXPECT_THAT(Words(R"({"type":"Whitespace"})", "Hey there! é_1"),
              ElementsAre("Hey", "there", "!", "é_1"));
  EXPECT_THAT(Words(R"({"type":"WhitespaceSplit"})", " Hey  there!"), ElementsAre("Hey", "there!"));
  EXPECT_THAT(Words(R"({"type":"Punctuation"})", "a$b。"), ElementsAre("a", "$", "b", "。"));
}

TEST(PreTokenizerTest, WritesBlanksAsMetaspace) {
  const std::string base = R"({"type":"Metaspace","replacement":"▁","prepend_scheme":)";
  EXPECT_THAT(Words(base + R"("always"})", "a b"), ElementsAre("▁a", "▁b"));
  EXPECT_THAT(Words(base + R"("always","split":false})", " a b"), ElementsAre("▁a▁b"));
  EXPECT_THAT(Words(base + R"("first"})", "a b", false), ElementsAre("a", "▁b"));
  EXPECT_THAT(Words(base + R"("first"})", "a b", true), ElementsAre("▁a", "▁b"));
  EXPECT_THAT(Words(base + R"("never"})", "a"), ElementsAre("a"));
}

TEST(PreTokenizerTest, CutsAgainInASequence) {
  EXPECT_THAT(Words(R"({"type":"Sequence","pretokenizers":[
      {"type":"Split","pattern":{"Regex":"\\p{N}{1,3}"},"behavior":"Isolated","invert":false},
      {"type":"Split","pattern":{"String":" "},"behavior":"MergedWithNext"}]})",
                    "a b1234"),
              ElementsAre("a", " b", "123", "4"));
}

TEST(PreTokenizerTest, NamesWhatItDoesNotKnow) {
  EXPECT_THAT(PreTokenizer::Create(Json::parse(R"({"type":"UnicodeScripts"})")),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("'UnicodeScripts'")));
  for (const char* json :
       {"[]", R"({"type":"Split","behavior":"Isolated"})", R"({"type":"Metaspace"})",
        R"({"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated"})"}) {
    EXPECT_THAT(PreTokenizer::Create(Json::parse(json)),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

std::vector<std::string> Cut(const std::string& text, SplitBehavior behavior, bool invert = false) {
  absl::StatusOr<Pattern> pattern = Pattern::Literal("-");
  EXPECT_OK(pattern);
  const SplitRule rule{*std::move(pattern), behavior, invert};
  const absl::StatusOr<std::vector<absl::string_view>> parts = Split(text, rule);
  EXPECT_OK(parts);
  return std::vector<std::string>(parts->begin(), parts->end());
}

// The sample of the library's own documentation.
constexpr char kText[] = "the-final--countdown";

TEST(SplitTest, CutsInEachWay) {
  EXPECT_THAT(Cut(kText, SplitBehavior::kRemoved), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(Cut(kText, SplitBehavior::kIsolated),
              ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(Cut(kText, SplitBehavior::kMergedWithPrevious),
              ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(Cut(kText, SplitBehavior::kMergedWithNext),
              ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(Cut(kText, SplitBehavior::kContiguous),
              ElementsAre("the", "-", "final", "--", "countdown"));
}

TEST(SplitTest, TakesWhatLiesBetweenWhenInverted) {
  EXPECT_THAT(Cut(kText, SplitBehavior::kRemoved, true), ElementsAre("-", "-", "-"));
  EXPECT_THAT(Cut(kText, SplitBehavior::kIsolated, true),
              ElementsAre("the", "-", "final", "-", "-", "countdown"));
}

TEST(SplitTest, HandlesTheEnds) {
  EXPECT_THAT(Cut("", SplitBehavior::kIsolated), ElementsAre());
  EXPECT_THAT(Cut("-a-", SplitBehavior::kMergedWithPrevious), ElementsAre("-", "a-"));
  EXPECT_THAT(Cut("-a-", SplitBehavior::kMergedWithNext), ElementsAre("-a", "-"));
}

TEST(SplitTest, RefusesUnknownBehaviors) {
  EXPECT_OK(ParseSplitBehavior("Contiguous", ""));
  EXPECT_THAT(ParseSplitBehavior("contiguous", "here"),
              StatusIs(absl::StatusCode::kInvalidArgument, ::testing::HasSubstr("'contiguous'")));
}

using Json = nlohmann::json;

TEST(MetaspaceTest, ReadsBothForms) {
  ASSERT_OK_AND_ASSIGN(
      const Metaspace now,
      ParseMetaspace(Json::parse(R"({"replacement":"▁","prepend_scheme":"first","split":false})"),
                     ""));
  EXPECT_EQ(now.prepend, PrependScheme::kFirst);
  EXPECT_FALSE(now.split);
  ASSERT_OK_AND_ASSIGN(
      const Metaspace before,
      ParseMetaspace(Json::parse(R"({"replacement":"▁","add_prefix_space":false})"), ""));
  EXPECT_EQ(before.prepend, PrependScheme::kNever);
  EXPECT_TRUE(before.split);
}

TEST(MetaspaceTest, RefusesContradictions) {
  for (const char* json :
       {R"({"replacement":""})", R"({"replacement":"ab"})", R"({})",
        R"({"replacement":"_","prepend_scheme":"x"})",
        R"({"replacement":"_","prepend_scheme":"always","add_prefix_space":false})"}) {
    EXPECT_THAT(ParseMetaspace(Json::parse(json), "here"),
                StatusIs(absl::StatusCode::kInvalidArgument, ::testing::HasSubstr("here")));
  }
}

}  // namespace
}  // namespace ccoe::tokenizer
