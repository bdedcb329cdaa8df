// Byte-pair encoding (Sennrich et al., arXiv 1508.07909): the "model" of tokenizer.json. A word
// starts as its characters, and the pair of neighbours that was learnt first is merged until no
// learnt pair is left.
#ifndef CCOE_RUNTIME_TOKENIZER_BPE_H_
#define CCOE_RUNTIME_TOKENIZER_BPE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/vocabulary.h"
#include "runtime/tokenizer/word_cache.h"

namespace ccoe::tokenizer {

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
