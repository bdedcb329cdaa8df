// Remembers the ids of words that were merged before. Bounded, and safe from any thread.
#ifndef CCOE_RUNTIME_TOKENIZER_WORD_CACHE_H_
#define CCOE_RUNTIME_TOKENIZER_WORD_CACHE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"

namespace ccoe::tokenizer {

class WordCache {
 public:
  // Longer words are rare and would make the cache's memory unpredictable: they are not kept.
  static constexpr size_t kMaxWordBytes = 64;
  static constexpr size_t kShards = 16;
  static constexpr size_t kWordsPerShard = 1024;

  // Appends the word's ids to `ids` and returns true, or returns false.
  bool Find(absl::string_view word, std::vector<int32_t>& ids) const;

  // A full shard is emptied first: text changes its words, and an exact order of age is not worth
  // its lock time.
  void Insert(absl::string_view word, absl::Span<const int32_t> ids);

 private:
  struct Shard {
    mutable absl::Mutex mutex;
    absl::flat_hash_map<std::string, std::vector<int32_t>> words ABSL_GUARDED_BY(mutex);
  };

  static size_t ShardOf(absl::string_view word);

  std::array<Shard, kShards> shards_;
};

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_WORD_CACHE_H_
