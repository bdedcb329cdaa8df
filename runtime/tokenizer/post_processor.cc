// SPDX-License-Identifier: Apache-2.0
#include "runtime/tokenizer/post_processor.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/json_fields.h"

namespace ccoe::tokenizer {
namespace {

constexpr int kMaxDepth = 16;
constexpr size_t kMaxTemplateTokens = 1024;

// The ids that special_tokens gives to `name`.
absl::StatusOr<std::vector<int32_t>> IdsOf(const Json& json, const std::string& name,
                                           int32_t vocabulary_size, const std::string& where) {
  const Json* table = FindField(json, "special_tokens");
  const Json* entry =
      table != nullptr && table->is_object() ? FindField(*table, name.c_str()) : nullptr;
  const std::string place = absl::StrCat(where, ".special_tokens['", name, "']");
  if (entry == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(place, ": expected ids, found nothing"));
  }
  CCOE_RETURN_IF_ERROR(ExpectObject(*entry, place));
  CCOE_ASSIGN_OR_RETURN(const Json* list, ArrayField(*entry, "ids", place));
  if (list->size() > kMaxTemplateTokens) {
    return absl::InvalidArgumentError(absl::StrCat(place, ".ids: expected at most ",
                                                   kMaxTemplateTokens, ", found ", list->size()));
  }
  std::vector<int32_t> ids;
  for (const Json& id : *list) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= static_cast<uint64_t>(vocabulary_size)) {
      return absl::InvalidArgumentError(absl::StrCat(place, ".ids: expected ids in [0, ",
                                                     vocabulary_size, "), found ",
                                                     id.is_number() ? id.dump() : id.type_name()));
    }
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

}  // namespace

absl::StatusOr<PostProcessor> PostProcessor::Create(const Json& json, int32_t vocabulary_size) {
  PostProcessor processor;
  processor.vocabulary_size_ = vocabulary_size;
  if (!json.is_null()) CCOE_RETURN_IF_ERROR(processor.Add(json, "post_processor", 0));
  return processor;
}

absl::Status PostProcessor::Add(const Json& json, const std::string& where, int depth) {
  if (depth > kMaxDepth) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": nested deeper than ", kMaxDepth));
  }
  CCOE_RETURN_IF_ERROR(ExpectObject(json, where));
  CCOE_ASSIGN_OR_RETURN(const std::string type, StringField(json, "type", where));
  if (type == "ByteLevel") return absl::OkStatus();
  if (type == "TemplateProcessing") return AddTemplate(json, where);
  if (type != "Sequence") {
    return absl::UnimplementedError(absl::StrCat(where, ": post_processor type '", type, "'"));
  }
  CCOE_ASSIGN_OR_RETURN(const Json* parts, ArrayField(json, "processors", where));
  for (size_t i = 0; i < parts->size(); ++i) {
    CCOE_RETURN_IF_ERROR(Add((*parts)[i], absl::StrCat(where, ".processors[", i, "]"), depth + 1));
  }
  return absl::OkStatus();
}

absl::Status PostProcessor::AddTemplate(const Json& json, const std::string& where) {
  CCOE_ASSIGN_OR_RETURN(const Json* pieces, ArrayField(json, "single", where));
  std::vector<int32_t> before;
  std::vector<int32_t> after;
  int texts = 0;
  for (size_t i = 0; i < pieces->size(); ++i) {
    const Json& piece = (*pieces)[i];
    const std::string place = absl::StrCat(where, ".single[", i, "]");
    CCOE_RETURN_IF_ERROR(ExpectObject(piece, place));
    if (FindField(piece, "Sequence") != nullptr) {
      ++texts;
      continue;
    }
    const Json* special = FindField(piece, "SpecialToken");
    if (special == nullptr || !special->is_object()) {
      return absl::InvalidArgumentError(
          absl::StrCat(place, ": expected a Sequence or a SpecialToken"));
    }
    CCOE_ASSIGN_OR_RETURN(const std::string name, StringField(*special, "id", place));
    CCOE_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                          IdsOf(json, name, vocabulary_size_, where));
    std::vector<int32_t>& side = texts == 0 ? before : after;
    side.insert(side.end(), ids.begin(), ids.end());
  }
  if (texts != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ".single: expected one Sequence, found ", texts));
  }
  if (prefix_.size() + suffix_.size() + before.size() + after.size() > kMaxTemplateTokens) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": adds more than ", kMaxTemplateTokens, " tokens"));
  }
  // What an earlier template of a sequence added is text to this one.
  prefix_.insert(prefix_.begin(), before.begin(), before.end());
  suffix_.insert(suffix_.end(), after.begin(), after.end());
  return absl::OkStatus();
}

}  // namespace ccoe::tokenizer
