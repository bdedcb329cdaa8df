// Tokens and their ids, both ways.
#ifndef CCOE_RUNTIME_TOKENIZER_VOCABULARY_H_
#define CCOE_RUNTIME_TOKENIZER_VOCABULARY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/node_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace ccoe::tokenizer {

// Ids are in [0, kMaxTokenIds).
inline constexpr int64_t kMaxTokenIds = 1 << 22;
inline constexpr size_t kMaxTokenBytes = 16 << 10;

// Filled by one thread, then read by any.
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

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_VOCABULARY_H_
