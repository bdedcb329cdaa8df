#include "runtime/tokenizer/vocabulary.h"

#include "absl/strings/str_cat.h"

namespace ccoe::tokenizer {

absl::Status Vocabulary::Add(const std::string& token, int64_t id) {
  if (id < 0 || id >= kMaxTokenIds) {
    return absl::InvalidArgumentError(
        absl::StrCat("token '", token, "': expected an id in [0, ", kMaxTokenIds, "), found ", id));
  }
  if (token.size() > kMaxTokenBytes) {
    return absl::InvalidArgumentError(absl::StrCat("token ", id, ": expected at most ",
                                                   kMaxTokenBytes, " bytes, found ", token.size()));
  }
  if (const std::string* other = TokenOf(id); other != nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("id ", id, " is given to two tokens, '", *other, "' and '", token, "'"));
  }
  const auto [entry, is_new] = ids_.try_emplace(token, static_cast<int32_t>(id));
  if (!is_new) {
    return absl::InvalidArgumentError(
        absl::StrCat("token '", token, "' has two ids, ", entry->second, " and ", id));
  }
  if (by_id_.size() <= static_cast<size_t>(id)) by_id_.resize(id + 1, nullptr);
  by_id_[id] = &entry->first;
  return absl::OkStatus();
}

std::optional<int32_t> Vocabulary::Find(absl::string_view token) const {
  const auto found = ids_.find(token);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

const std::string* Vocabulary::TokenOf(int64_t id) const {
  return id < 0 || static_cast<size_t>(id) >= by_id_.size() ? nullptr : by_id_[id];
}

}  // namespace ccoe::tokenizer
