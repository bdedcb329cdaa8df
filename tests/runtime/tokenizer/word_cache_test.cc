#include "runtime/tokenizer/word_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "absl/strings/str_cat.h"

namespace ccoe::tokenizer {
namespace {

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

}  // namespace
}  // namespace ccoe::tokenizer
