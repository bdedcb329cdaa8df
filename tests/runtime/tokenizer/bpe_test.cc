// SPDX-License-Identifier: Apache-2.0
#include "runtime/tokenizer/bpe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::tokenizer {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;
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

TEST(WordCacheTest, GivesBackWhatWasKept) {
  WordCache cache;
  std::vector<int32_t> ids = {9};
  EXPECT_FALSE(cache.Find("a", ids));
  cache.Insert("a", {1, 2});
  EXPECT_TRUE(cache.Find("a", ids));
  EXPECT_THAT(ids, ::testing::ElementsAre(9, 1, 2));
}

TEST(WordCacheTest, DoesNotKeepLongWords) {
  WordCache cache;
  const std::string word(WordCache::kMaxWordBytes + 1, 'x');
  cache.Insert(word, {1});
  std::vector<int32_t> ids;
  EXPECT_FALSE(cache.Find(word, ids));
}

TEST(WordCacheTest, StaysBoundedAndRightUnderManyThreads) {
  WordCache cache;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&cache] {
      for (int32_t i = 0; i < 30'000; ++i) {
        const std::string word = absl::StrCat("w", i);
        std::vector<int32_t> ids;
        if (cache.Find(word, ids)) {
          ASSERT_THAT(ids, ::testing::ElementsAre(i));
        } else {
          cache.Insert(word, {i});
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  size_t kept = 0;
  for (int32_t i = 0; i < 30'000; ++i) {
    std::vector<int32_t> ids;
    kept += cache.Find(absl::StrCat("w", i), ids) ? 1 : 0;
  }
  EXPECT_GT(kept, 0u);
  EXPECT_LE(kept, WordCache::kShards * WordCache::kWordsPerShard);
}

using Json = nlohmann::json;

Json Model() {
  return Json::parse(
      R"({"type":"BPE","vocab":{"<unk>":0,"a":1,"b":2,"c":3,"ab":4,"abc":5,"bc":6,"aa":7,
      "<0xC3>":8,"<0xA9>":9,"aab":10},"merges":["a b","b c",["ab","c"],["a","a"]]})");
}

std::vector<int32_t> Ids(const Json& model, const std::string& word) {
  const auto bpe = Bpe::Create(model);
  EXPECT_OK(bpe);
  std::vector<int32_t> ids;
  (*bpe)->Encode(word, ids);
  std::vector<int32_t> again;
  (*bpe)->Encode(word, again);
  EXPECT_EQ(ids, again) << "from the cache";
  return ids;
}

TEST(BpeTest, MergesTheEarliestLearntPairFirstAndFromTheLeft) {
  EXPECT_THAT(Ids(Model(), "abc"), ElementsAre(5));
  EXPECT_THAT(Ids(Model(), "aabc"), ElementsAre(1, 5));
  EXPECT_THAT(Ids(Model(), "aaa"), ElementsAre(7, 1));
  EXPECT_THAT(Ids(Model(), "bcab"), ElementsAre(6, 4));
  EXPECT_THAT(Ids(Model(), ""), ElementsAre());
}

TEST(BpeTest, TakesWholeWordsWhenMergesAreIgnored) {
  Json model = Model();
  EXPECT_THAT(Ids(model, "aab"), ElementsAre(1, 4));
  model["ignore_merges"] = true;
  EXPECT_THAT(Ids(model, "aab"), ElementsAre(10));
}

TEST(BpeTest, HandlesUnknownCharacters) {
  Json model = Model();
  EXPECT_THAT(Ids(model, "axé"), ElementsAre(1));
  model["unk_token"] = "<unk>";
  EXPECT_THAT(Ids(model, "xya"), ElementsAre(0, 0, 1));
  model["fuse_unk"] = true;
  EXPECT_THAT(Ids(model, "xyaz"), ElementsAre(0, 1, 0));
  model["byte_fallback"] = true;
  EXPECT_THAT(Ids(model, "éa"), ElementsAre(8, 9, 1));
  EXPECT_THAT(Ids(model, "日a"), ElementsAre(0, 1)) << "not all bytes have tokens";
}

TEST(BpeTest, EncodesLongWordsWithoutQuadraticTime) {
  const std::string word(1 << 20, 'a');
  EXPECT_EQ(Ids(Model(), word).size(), word.size() / 2);
}

TEST(BpeTest, RefusesContradictions) {
  const auto code = absl::StatusCode::kInvalidArgument;
  const std::pair<const char*, const char*> patches[] = {
      {R"({"merges":["a x"]})", "needs 'x'"},
      {R"({"merges":["c a"]})", "needs 'ca'"},
      {R"({"merges":["a b c"]})", "model.merges[0]"},
      {R"({"merges":[["a"]]})", "model.merges[0]"},
      {R"({"merges":3})", "expected a list"},
      {R"({"vocab":{"a":1,"b":1}})", "given to two tokens"},
      {R"({"vocab":{"a":-1}})", "-1"},
      {R"({"vocab":{"a":99999999999}})", "99999999999"},
      {R"({"vocab":{"a":1.5}})", "1.5"},
      {R"({"vocab":[]})", "model.vocab"},
      {R"({"unk_token":"nothing"})", "'nothing' is not in model.vocab"},
      {R"({"byte_fallback":"yes"})", "expected a boolean"},
  };
  for (const auto& [patch, message] : patches) {
    Json model = Model();
    model.update(Json::parse(patch));
    EXPECT_THAT(Bpe::Create(model), StatusIs(code, HasSubstr(message))) << patch;
  }
}

TEST(BpeTest, NamesWhatItDoesNotKnow) {
  const auto code = absl::StatusCode::kUnimplemented;
  for (const char* patch :
       {R"({"type":"Unigram"})", R"({"dropout":0.1})", R"({"end_of_word_suffix":"</w>"})",
        R"({"continuing_subword_prefix":"##"})"}) {
    Json model = Model();
    model.update(Json::parse(patch));
    EXPECT_THAT(Bpe::Create(model), StatusIs(code)) << patch;
  }
}

}  // namespace
}  // namespace ccoe::tokenizer
