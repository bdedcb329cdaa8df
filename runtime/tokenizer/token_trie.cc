#include "runtime/tokenizer/token_trie.h"

namespace ccoe::tokenizer {
namespace {

uint64_t EdgeKey(uint32_t node, char byte) {
  return static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(byte);
}

}  // namespace

void TokenTrie::Insert(absl::string_view key, int32_t value) {
  if (key.empty()) return;
  starts_[static_cast<uint8_t>(key[0])] = true;
  uint32_t node = 0;
  for (const char byte : key) {
    const auto next = static_cast<uint32_t>(values_.size());
    const auto [edge, is_new] = edges_.try_emplace(EdgeKey(node, byte), next);
    if (is_new) values_.push_back(kNone);
    node = edge->second;
  }
  if (values_[node] == kNone) values_[node] = value;
}

std::optional<TokenTrie::Hit> TokenTrie::Find(absl::string_view text, size_t start) const {
  for (size_t begin = start; begin < text.size(); ++begin) {
    if (!starts_[static_cast<uint8_t>(text[begin])]) continue;
    std::optional<Hit> longest;
    uint32_t node = 0;
    for (size_t at = begin; at < text.size(); ++at) {
      const auto edge = edges_.find(EdgeKey(node, text[at]));
      if (edge == edges_.end()) break;
      node = edge->second;
      if (values_[node] != kNone) longest = Hit{begin, at + 1, values_[node]};
    }
    if (longest.has_value()) return longest;
  }
  return std::nullopt;
}

}  // namespace ccoe::tokenizer
