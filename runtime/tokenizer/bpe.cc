// SPDX-License-Identifier: Apache-2.0
#include "runtime/tokenizer/bpe.h"

#include <nlohmann/json.hpp>
#include <queue>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/json_fields.h"
#include "runtime/tokenizer/unicode.h"

namespace ccoe::tokenizer {
namespace {

constexpr char kWhere[] = "model";

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

absl::Status RefuseText(const Json& model, const char* key) {
  CCOE_ASSIGN_OR_RETURN(const std::string value, StringFieldOr(model, key, "", kWhere));
  if (value.empty()) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat("model.", key, ": '", value, "'"));
}

}  // namespace

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

// A node of the word's linked list of symbols; indices into the list, -1 for none.
struct Bpe::Symbol {
  int32_t id = kNoId;  // kNoId once it has been merged into its left neighbour
  int32_t previous = -1;
  int32_t next = -1;
};

// A pair that could be merged when it was found. It is stale if its symbols have changed since.
struct Bpe::Candidate {
  int32_t rank = 0;
  int32_t position = 0;
  int32_t result = 0;
  // For std::priority_queue, which puts the greatest first: the lowest rank, then the leftmost.
  bool operator<(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

// Merges one word.
class Bpe::Merger {
 public:
  Merger(const Bpe& bpe, const std::vector<int32_t>& ids) : bpe_(bpe), symbols_(ids.size()) {
    const int32_t count = static_cast<int32_t>(ids.size());
    for (int32_t i = 0; i < count; ++i) {
      symbols_[i] = {ids[i], i - 1, i + 1 < count ? i + 1 : -1};
    }
    std::vector<Candidate> candidates;
    for (int32_t i = 0; i + 1 < count; ++i) {
      if (const Merge* merge = bpe_.FindMerge(ids[i], ids[i + 1]); merge != nullptr) {
        candidates.push_back({merge->rank, i, merge->result});
      }
    }
    queue_ = std::priority_queue<Candidate>(std::less<Candidate>(), std::move(candidates));
  }

  void Run(std::vector<int32_t>& ids) {
    while (!queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      Apply(top);
    }
    for (const Symbol& symbol : symbols_) {
      if (symbol.id != kNoId) ids.push_back(symbol.id);
    }
  }

 private:
  void Push(int32_t left, int32_t right) {
    const Merge* merge = bpe_.FindMerge(symbols_[left].id, symbols_[right].id);
    if (merge != nullptr) queue_.push({merge->rank, left, merge->result});
  }

  void Apply(const Candidate& candidate) {
    Symbol& left = symbols_[candidate.position];
    if (left.id == kNoId || left.next < 0) return;
    Symbol& right = symbols_[left.next];
    const Merge* merge = bpe_.FindMerge(left.id, right.id);
    if (merge == nullptr || merge->result != candidate.result) return;
    left.id = candidate.result;
    left.next = right.next;
    right.id = kNoId;
    if (left.next >= 0) symbols_[left.next].previous = candidate.position;
    if (left.previous >= 0) Push(left.previous, candidate.position);
    if (left.next >= 0) Push(candidate.position, left.next);
  }

  const Bpe& bpe_;
  std::vector<Symbol> symbols_;
  std::priority_queue<Candidate> queue_;
};

absl::StatusOr<std::unique_ptr<Bpe>> Bpe::Create(const Json& model) {
  CCOE_RETURN_IF_ERROR(ExpectObject(model, kWhere));
  // Files older than the field hold BPE if they hold merges.
  const std::string fallback = model.contains("merges") ? "BPE" : "";
  CCOE_ASSIGN_OR_RETURN(const std::string type, StringFieldOr(model, "type", fallback, kWhere));
  if (type != "BPE") {
    return absl::UnimplementedError(absl::StrCat("model.type: expected BPE, found '", type, "'"));
  }
  std::unique_ptr<Bpe> bpe(new Bpe());
  CCOE_RETURN_IF_ERROR(bpe->ReadVocabulary(model));
  CCOE_RETURN_IF_ERROR(bpe->ReadOptions(model));
  CCOE_RETURN_IF_ERROR(bpe->ReadMerges(model));
  return bpe;
}

absl::Status Bpe::ReadVocabulary(const Json& model) {
  const Json* vocabulary = FindField(model, "vocab");
  if (vocabulary == nullptr || !vocabulary->is_object()) {
    return absl::InvalidArgumentError("model.vocab: expected an object of tokens and ids");
  }
  for (const auto& [token, id] : vocabulary->items()) {
    if (!id.is_number_integer() || (id.is_number_unsigned() && id.get<uint64_t>() > INT32_MAX)) {
      return absl::InvalidArgumentError(
          absl::StrCat("model.vocab['", token, "']: expected an id in [0, ", kMaxTokenIds,
                       "), found ", id.is_number() ? id.dump() : id.type_name()));
    }
    CCOE_RETURN_IF_ERROR_IN(vocabulary_.Add(token, id.get<int64_t>()), "model.vocab");
  }
  for (int byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = vocabulary_.Find(absl::StrFormat("<0x%02X>", byte)).value_or(kNoId);
  }
  return absl::OkStatus();
}

absl::Status Bpe::ReadOptions(const Json& model) {
  CCOE_RETURN_IF_ERROR(RefuseText(model, "continuing_subword_prefix"));
  CCOE_RETURN_IF_ERROR(RefuseText(model, "end_of_word_suffix"));
  const Json* dropout = FindField(model, "dropout");
  if (dropout != nullptr && (!dropout->is_number() || dropout->get<double>() != 0)) {
    return absl::UnimplementedError(
        absl::StrCat("model.dropout: expected none, found ",
                     dropout->is_number() ? dropout->dump() : dropout->type_name()));
  }
  CCOE_ASSIGN_OR_RETURN(fuse_unknown_, BoolField(model, "fuse_unk", false, kWhere));
  CCOE_ASSIGN_OR_RETURN(byte_fallback_, BoolField(model, "byte_fallback", false, kWhere));
  CCOE_ASSIGN_OR_RETURN(ignore_merges_, BoolField(model, "ignore_merges", false, kWhere));
  CCOE_ASSIGN_OR_RETURN(const std::string unknown, StringFieldOr(model, "unk_token", "", kWhere));
  if (unknown.empty()) return absl::OkStatus();
  unknown_ = vocabulary_.Find(unknown);
  if (unknown_.has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("model.unk_token: '", unknown, "' is not in model.vocab"));
}

absl::Status Bpe::ReadMerges(const Json& model) {
  CCOE_ASSIGN_OR_RETURN(const Json* merges, ArrayField(model, "merges", kWhere));
  merges_.reserve(merges->size());
  for (size_t i = 0; i < merges->size(); ++i) {
    const Json& entry = (*merges)[i];
    std::string left;
    std::string right;
    if (entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_string()) {
      left = entry[0].get_ref<const std::string&>();
      right = entry[1].get_ref<const std::string&>();
    } else if (entry.is_string()) {
      const std::string& line = entry.get_ref<const std::string&>();
      const size_t blank = line.find(' ');
      if (blank != std::string::npos && line.find(' ', blank + 1) == std::string::npos) {
        left = line.substr(0, blank);
        right = line.substr(blank + 1);
      }
    }
    if (left.empty() || right.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "model.merges[", i, "]: expected 'left right' or [\"left\", \"right\"], found ",
          entry.is_string() ? absl::StrCat("'", entry.get_ref<const std::string&>(), "'")
                            : std::string(entry.type_name())));
    }
    CCOE_RETURN_IF_ERROR_IN(AddMerge(left, right, static_cast<int32_t>(i)),
                            absl::StrCat("model.merges[", i, "]"));
  }
  return absl::OkStatus();
}

absl::Status Bpe::AddMerge(const std::string& left, const std::string& right, int32_t rank) {
  const std::string result = left + right;
  for (const std::string* token : {&left, &right, &result}) {
    if (!vocabulary_.Find(*token).has_value()) {
      return absl::InvalidArgumentError(absl::StrCat("merge of '", left, "' and '", right,
                                                     "' needs '", *token,
                                                     "', which is not in model.vocab"));
    }
  }
  const uint64_t key = PairKey(*vocabulary_.Find(left), *vocabulary_.Find(right));
  merges_.insert_or_assign(key, Merge{rank, *vocabulary_.Find(result)});
  return absl::OkStatus();
}

const Bpe::Merge* Bpe::FindMerge(int32_t left, int32_t right) const {
  const auto found = merges_.find(PairKey(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

bool Bpe::AppendBytes(absl::string_view character, std::vector<int32_t>& ids) const {
  for (const char byte : character) {
    if (byte_ids_[static_cast<uint8_t>(byte)] == kNoId) return false;
  }
  for (const char byte : character) ids.push_back(byte_ids_[static_cast<uint8_t>(byte)]);
  return true;
}

std::vector<int32_t> Bpe::Characters(absl::string_view word) const {
  std::vector<int32_t> ids;
  ids.reserve(word.size());
  // An unknown character is written when the next known one comes, so that neighbours can be fused.
  // Bytes do not write it (as in the library that these files are made for).
  bool pending = false;
  for (size_t at = 0; at < word.size();) {
    const absl::string_view character = word.substr(at, DecodeUtf8(word, at).length);
    at += character.size();
    if (const auto id = vocabulary_.Find(character); id.has_value()) {
      if (pending) ids.push_back(*unknown_);
      pending = false;
      ids.push_back(*id);
      continue;
    }
    if (byte_fallback_ && AppendBytes(character, ids)) continue;
    if (!unknown_.has_value()) continue;
    if (pending && !fuse_unknown_) ids.push_back(*unknown_);
    pending = true;
  }
  if (pending) ids.push_back(*unknown_);
  return ids;
}

void Bpe::Encode(absl::string_view word, std::vector<int32_t>& ids) const {
  if (word.empty()) return;
  if (ignore_merges_) {
    if (const auto whole = vocabulary_.Find(word); whole.has_value()) {
      ids.push_back(*whole);
      return;
    }
  }
  if (cache_.Find(word, ids)) return;
  const size_t start = ids.size();
  Merger(*this, Characters(word)).Run(ids);
  cache_.Insert(word, absl::MakeConstSpan(ids).subspan(start));
}

}  // namespace ccoe::tokenizer
