// SPDX-License-Identifier: Apache-2.0
// Byte-pair encoding (Sennrich et al., arXiv 1508.07909): the "model" of tokenizer.json. A word
// starts as its characters, and the pair of neighbours that was learnt first is merged until no
// learnt pair is left.
#ifndef CCOE_RUNTIME_TOKENIZER_BPE_H_
#define CCOE_RUNTIME_TOKENIZER_BPE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/node_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"

namespace ccoe::tokenizer {

// Ids are in [0, kMaxTokenIds).
inline constexpr int64_t kMaxTokenIds = 1 << 22;
inline constexpr size_t kMaxTokenBytes = 16 << 10;

// Tokens and their ids, both ways. Filled by one thread, then read by any.
class Vocabulary {
 public:
  Vocabulary() = default;
  // by_id_ points into ids_, whose nodes stay where they are in a move but not in a copy.
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  // INVALID_ARGUMENT if the token or the id is taken, or either is out of bounds.
  absl::Status Add(const std::string& token, int64_t id);

  std::optional<int32_t> Find(absl::string_view token) const;

  // nullptr if no token has this id.
  const std::string* TokenOf(int64_t id) const;

  // One more than the largest id.
  int32_t size() const { return static_cast<int32_t>(by_id_.size()); }

 private:
  absl::node_hash_map<std::string, int32_t> ids_;
  std::vector<const std::string*> by_id_;  // the map's keys
};

// Remembers the ids of words that were merged before. Bounded, and safe from any thread.
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

// Thread-safe after creation.
class Bpe {
 public:
  // The "model" object: vocab, merges (both forms), unk_token, fuse_unk, byte_fallback,
  // ignore_merges. INVALID_ARGUMENT if it contradicts itself; UNIMPLEMENTED for another type,
  // dropout, and subword prefixes or suffixes.
  static absl::StatusOr<std::unique_ptr<Bpe>> Create(const nlohmann::json& model);

  const Vocabulary& vocabulary() const { return vocabulary_; }

  // Appends the ids of `word` (valid UTF-8) to `ids`. Time O(n log n). A character that has no id,
  // no bytes to fall back on and no unknown token gives nothing.
  void Encode(absl::string_view word, std::vector<int32_t>& ids) const;

 private:
  static constexpr int32_t kNoId = -1;

  struct Merge {
    int32_t rank = 0;
    int32_t result = 0;
  };
  struct Symbol;
  struct Candidate;
  class Merger;

  Bpe() = default;
  absl::Status ReadOptions(const nlohmann::json& model);
  absl::Status ReadVocabulary(const nlohmann::json& model);
  absl::Status ReadMerges(const nlohmann::json& model);
  absl::Status AddMerge(const std::string& left, const std::string& right, int32_t rank);
  const Merge* FindMerge(int32_t left, int32_t right) const;
  std::vector<int32_t> Characters(absl::string_view word) const;
  bool AppendBytes(absl::string_view character, std::vector<int32_t>& ids) const;

  Vocabulary vocabulary_;
  absl::flat_hash_map<uint64_t, Merge> merges_;  // by left << 32 | right
  std::array<int32_t, 256> byte_ids_{};          // of <0x00> ... <0xFF>
  std::optional<int32_t> unknown_;
  bool fuse_unknown_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
  mutable WordCache cache_;
};

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_BPE_H_
