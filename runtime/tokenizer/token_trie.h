// Finds the longest of many strings that starts at a place in a text.
#ifndef CCOE_RUNTIME_TOKENIZER_TOKEN_TRIE_H_
#define CCOE_RUNTIME_TOKENIZER_TOKEN_TRIE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace ccoe::tokenizer {

// Filled by one thread, then read by any.
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

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_TOKEN_TRIE_H_
