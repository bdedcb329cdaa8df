// SPDX-License-Identifier: Apache-2.0
// The "added_tokens" of tokenizer.json: tokens that are found in the text itself, before anything
// is merged.
#ifndef CCOE_RUNTIME_TOKENIZER_ADDED_TOKENS_H_
#define CCOE_RUNTIME_TOKENIZER_ADDED_TOKENS_H_

#include <array>
#include <cstddef>
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
#include "runtime/tokenizer/bpe.h"
#include "runtime/tokenizer/normalizer.h"

namespace ccoe::tokenizer {

// Finds the longest of many strings that starts at a place in a text. Filled by one thread, then
// read by any.
class TokenTrie {
 public:
  struct Hit {
    size_t begin = 0;
    size_t end = 0;
    int32_t value = 0;
  };

  // A string that is there already keeps its first value; an empty one is not taken.
  void Insert(absl::string_view key, int32_t value);

  // The leftmost hit at or after `start`; of those that start together the longest.
  std::optional<Hit> Find(absl::string_view text, size_t start) const;

 private:
  static constexpr int32_t kNone = -1;

  absl::flat_hash_map<uint64_t, uint32_t> edges_;  // node << 8 | byte to node
  std::vector<int32_t> values_ = {kNone};          // by node; node 0 is the root
  std::array<bool, 256> starts_{};                 // bytes that some key starts with
};

struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool special = false;      // left out of decoded text when asked
  bool normalized = false;   // found in the normalised text, else in the text as it came
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and the white space after it
  bool single_word = false;  // only between characters that are not of words
};

// Immutable and thread-safe after creation.
class AddedTokens {
 public:
  // A part of a text: an added token, or what lies between them.
  struct Segment {
    size_t begin = 0;  // bytes
    size_t end = 0;
    const AddedToken* token = nullptr;  // nullptr for text
  };

  // `list` is the JSON list (null for none). INVALID_ARGUMENT if an entry contradicts the model's
  // vocabulary or another.
  static absl::StatusOr<AddedTokens> Create(const nlohmann::json& list, const Vocabulary& model,
                                            const Normalizer& normalizer);

  // Cuts valid UTF-8 at the tokens that are looked for in the text as it came, or in the normalised
  // text. Segments of text are not empty.
  std::vector<Segment> Split(absl::string_view text, bool normalized) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }
  // nullptr if no added token has this id.
  const AddedToken* Find(int64_t id) const;

 private:
  AddedTokens() = default;
  absl::Status Add(AddedToken token, const Vocabulary& model);
  absl::Status BuildTries(const Normalizer& normalizer);

  Vocabulary vocabulary_;
  std::vector<std::unique_ptr<AddedToken>> tokens_;
  absl::flat_hash_map<int64_t, const AddedToken*> by_id_;
  TokenTrie plain_;       // values are indices into tokens_
  TokenTrie normalized_;  // the same
};

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_ADDED_TOKENS_H_
