// SPDX-License-Identifier: Apache-2.0
#include "runtime/tokenizer/added_tokens.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/json_fields.h"
#include "runtime/tokenizer/unicode.h"

namespace ccoe::tokenizer {
namespace {

uint64_t EdgeKey(uint32_t node, char byte) {
  return static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(byte);
}

absl::StatusOr<AddedToken> ParseToken(const Json& json, const std::string& where) {
  CCOE_RETURN_IF_ERROR(ExpectObject(json, where));
  AddedToken token;
  CCOE_ASSIGN_OR_RETURN(token.content, StringField(json, "content", where));
  CCOE_ASSIGN_OR_RETURN(const int64_t id, IntField(json, "id", kMaxTokenIds - 1, where));
  token.id = static_cast<int32_t>(id);
  CCOE_ASSIGN_OR_RETURN(token.special, BoolField(json, "special", false, where));
  CCOE_ASSIGN_OR_RETURN(token.normalized, BoolField(json, "normalized", !token.special, where));
  CCOE_ASSIGN_OR_RETURN(token.lstrip, BoolField(json, "lstrip", false, where));
  CCOE_ASSIGN_OR_RETURN(token.rstrip, BoolField(json, "rstrip", false, where));
  CCOE_ASSIGN_OR_RETURN(token.single_word, BoolField(json, "single_word", false, where));
  return token;
}

bool EndsWithWord(absl::string_view text) {
  return StripRight(text, IsWordCharacter).size() != text.size();
}

bool StartsWithWord(absl::string_view text) {
  return !text.empty() && IsWordCharacter(DecodeUtf8(text, 0).code_point);
}

bool StandsAlone(absl::string_view text, const TokenTrie::Hit& hit) {
  // The whole run of word characters need not be walked: one character decides.
  const absl::string_view before = text.substr(0, hit.begin);
  const size_t window = std::min<size_t>(before.size(), 4);
  absl::string_view last = before.substr(before.size() - window);
  while (!last.empty() && (static_cast<unsigned char>(last[0]) & 0xC0) == 0x80) {
    last.remove_prefix(1);
  }
  return !EndsWithWord(last) && !StartsWithWord(text.substr(hit.end));
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

absl::StatusOr<AddedTokens> AddedTokens::Create(const Json& list, const Vocabulary& model,
                                                const Normalizer& normalizer) {
  AddedTokens added;
  if (list.is_null()) return added;
  if (!list.is_array()) return WrongJsonType("added_tokens", "a list", list);
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string where = absl::StrCat("added_tokens[", i, "]");
    CCOE_ASSIGN_OR_RETURN(AddedToken token, ParseToken(list[i], where));
    // Nothing can be found that is empty.
    if (token.content.empty()) continue;
    CCOE_RETURN_IF_ERROR_IN(added.Add(std::move(token), model), where);
  }
  CCOE_RETURN_IF_ERROR(added.BuildTries(normalizer));
  return added;
}

absl::Status AddedTokens::Add(AddedToken token, const Vocabulary& model) {
  const auto model_id = model.Find(token.content);
  if (model_id.has_value() && *model_id != token.id) {
    return absl::InvalidArgumentError(absl::StrCat("token '", token.content, "' has id ", token.id,
                                                   " here and ", *model_id, " in model.vocab"));
  }
  const std::string* other = model.TokenOf(token.id);
  if (other != nullptr && *other != token.content) {
    return absl::InvalidArgumentError(absl::StrCat("id ", token.id, " is '", token.content,
                                                   "' here and '", *other, "' in model.vocab"));
  }
  CCOE_RETURN_IF_ERROR(vocabulary_.Add(token.content, token.id));
  tokens_.push_back(std::make_unique<AddedToken>(std::move(token)));
  by_id_[tokens_.back()->id] = tokens_.back().get();
  return absl::OkStatus();
}

absl::Status AddedTokens::BuildTries(const Normalizer& normalizer) {
  // Two tokens may be the same once normalised: the first one wins, and special ones come first.
  for (const bool special : {true, false}) {
    for (size_t i = 0; i < tokens_.size(); ++i) {
      const AddedToken& token = *tokens_[i];
      if (token.special != special) continue;
      if (!token.normalized) {
        plain_.Insert(token.content, static_cast<int32_t>(i));
        continue;
      }
      CCOE_ASSIGN_OR_RETURN(const std::string content, normalizer.Apply(token.content));
      if (content.size() > kMaxTokenBytes) {
        return absl::InvalidArgumentError(absl::StrCat("added token ", token.id, ": longer than ",
                                                       kMaxTokenBytes, " bytes when normalised"));
      }
      normalized_.Insert(content, static_cast<int32_t>(i));
    }
  }
  return absl::OkStatus();
}

std::vector<AddedTokens::Segment> AddedTokens::Split(absl::string_view text,
                                                     bool normalized) const {
  const TokenTrie& trie = normalized ? normalized_ : plain_;
  std::vector<Segment> segments;
  size_t done = 0;
  size_t from = 0;
  while (true) {
    const std::optional<TokenTrie::Hit> hit = trie.Find(text, from);
    if (!hit.has_value()) break;
    from = hit->end;
    const AddedToken& token = *tokens_[hit->value];
    if (token.single_word && !StandsAlone(text, *hit)) continue;
    size_t begin = hit->begin;
    size_t end = hit->end;
    if (token.lstrip && begin > done) {
      begin = done + StripRight(text.substr(done, begin - done), IsWhitespace).size();
    }
    if (token.rstrip) end = text.size() - StripLeft(text.substr(end), IsWhitespace).size();
    if (begin > done) segments.push_back({done, begin, nullptr});
    segments.push_back({begin, end, &token});
    done = end;
  }
  if (done < text.size()) segments.push_back({done, text.size(), nullptr});
  return segments;
}

const AddedToken* AddedTokens::Find(int64_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : found->second;
}

}  // namespace ccoe::tokenizer
