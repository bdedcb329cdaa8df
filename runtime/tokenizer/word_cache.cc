#include "runtime/tokenizer/word_cache.h"

#include "absl/hash/hash.h"

namespace ccoe::tokenizer {

size_t WordCache::ShardOf(absl::string_view word) {
  return absl::Hash<absl::string_view>()(word) >> 7 & (kShards - 1);
}

bool WordCache::Find(absl::string_view word, std::vector<int32_t>& ids) const {
  if (word.size() > kMaxWordBytes) return false;
  const Shard& shard = shards_[ShardOf(word)];
  absl::MutexLock lock(&shard.mutex);
  const auto found = shard.words.find(word);
  if (found == shard.words.end()) return false;
  ids.insert(ids.end(), found->second.begin(), found->second.end());
  return true;
}

void WordCache::Insert(absl::string_view word, absl::Span<const int32_t> ids) {
  if (word.size() > kMaxWordBytes) return;
  Shard& shard = shards_[ShardOf(word)];
  absl::MutexLock lock(&shard.mutex);
  if (shard.words.size() >= kWordsPerShard) shard.words.clear();
  shard.words.try_emplace(std::string(word), ids.begin(), ids.end());
}

}  // namespace ccoe::tokenizer
