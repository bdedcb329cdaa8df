// SPDX-License-Identifier: Apache-2.0
#include "runtime/tokenizer/tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/json_fields.h"
#include "runtime/tokenizer/unicode.h"

namespace ccoe::tokenizer {
namespace {

constexpr size_t kMaxConfigBytes = 16 << 20;
constexpr size_t kMaxTemplateBytes = 1 << 20;

// A token is written as its text, or as an object that holds the text.
absl::Status ReadToken(const Json& json, const char* key, const std::string& where,
                       std::string& token) {
  const Json* field = FindField(json, key);
  if (field == nullptr || !token.empty()) return absl::OkStatus();
  if (field->is_object()) {
    CCOE_ASSIGN_OR_RETURN(token, StringField(*field, "content", absl::StrCat(where, ".", key)));
    return absl::OkStatus();
  }
  CCOE_ASSIGN_OR_RETURN(token, StringField(json, key, where));
  return absl::OkStatus();
}

// A template, or a list of named ones, of which "default" is for chats.
absl::Status ReadTemplate(const Json& json, const std::string& where, std::string& chat_template) {
  const Json* field = FindField(json, "chat_template");
  if (field == nullptr) return absl::OkStatus();
  const std::string place = absl::StrCat(where, ".chat_template");
  if (!field->is_array()) {
    CCOE_ASSIGN_OR_RETURN(chat_template, StringField(json, "chat_template", where));
    return absl::OkStatus();
  }
  for (const Json& entry : *field) {
    CCOE_RETURN_IF_ERROR(ExpectObject(entry, place));
    CCOE_ASSIGN_OR_RETURN(const std::string name, StringField(entry, "name", place));
    if (name != "default") continue;
    CCOE_ASSIGN_OR_RETURN(chat_template, StringField(entry, "template", place));
  }
  return absl::OkStatus();
}

absl::Status ReadConfigFile(const std::string& path, TokenizerConfig& config) {
  absl::StatusOr<Json> json = ReadJsonFile(path, kMaxConfigBytes);
  if (absl::IsNotFound(json.status())) return absl::OkStatus();
  CCOE_RETURN_IF_ERROR(json.status());
  CCOE_RETURN_IF_ERROR(ExpectObject(*json, path));
  CCOE_RETURN_IF_ERROR(ReadToken(*json, "bos_token", path, config.bos_token));
  CCOE_RETURN_IF_ERROR(ReadToken(*json, "eos_token", path, config.eos_token));
  CCOE_RETURN_IF_ERROR(ReadToken(*json, "pad_token", path, config.pad_token));
  CCOE_RETURN_IF_ERROR(ReadToken(*json, "unk_token", path, config.unk_token));
  return ReadTemplate(*json, path, config.chat_template);
}

constexpr size_t kMaxFileBytes = 256 << 20;

// json[key], or null where it is missing.
const Json& Part(const Json& json, const char* key) {
  static const Json* const null = new Json(nullptr);
  const Json* part = FindField(json, key);
  return part == nullptr ? *null : *part;
}

// What is put around each text can be decoded again. Below the largest id there may be gaps.
absl::Status CheckIds(const std::vector<int32_t>& ids, const Bpe& bpe, const AddedTokens& added) {
  for (const int32_t id : ids) {
    if (bpe.vocabulary().TokenOf(id) != nullptr || added.vocabulary().TokenOf(id) != nullptr) {
      continue;
    }
    return absl::InvalidArgumentError(
        absl::StrCat("post_processor: expected ids of tokens, found ", id, ", which none has"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerConfig> ReadTokenizerConfig(const std::string& model_dir) {
  TokenizerConfig config;
  CCOE_RETURN_IF_ERROR(ReadConfigFile(absl::StrCat(model_dir, "/tokenizer_config.json"), config));
  CCOE_RETURN_IF_ERROR(ReadConfigFile(absl::StrCat(model_dir, "/special_tokens_map.json"), config));
  const std::string path = absl::StrCat(model_dir, "/chat_template.jinja");
  absl::StatusOr<std::string> chat_template = ReadFile(path, kMaxTemplateBytes);
  if (chat_template.ok()) {
    config.chat_template = *std::move(chat_template);
  } else if (!absl::IsNotFound(chat_template.status())) {
    return chat_template.status();
  }
  return config;
}

struct Tokenizer::Parts {
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::unique_ptr<Bpe> bpe;
  AddedTokens added_tokens;
  PostProcessor post_processor;
  Decoder decoder;
  int32_t vocab_size = 0;

  static absl::StatusOr<Parts> Create(const Json& json) {
    CCOE_RETURN_IF_ERROR(ExpectObject(json, "the file"));
    CCOE_ASSIGN_OR_RETURN(auto bpe, Bpe::Create(Part(json, "model")));
    CCOE_ASSIGN_OR_RETURN(auto normalizer, Normalizer::Create(Part(json, "normalizer")));
    CCOE_ASSIGN_OR_RETURN(auto pre_tokenizer, PreTokenizer::Create(Part(json, "pre_tokenizer")));
    CCOE_ASSIGN_OR_RETURN(
        auto added, AddedTokens::Create(Part(json, "added_tokens"), bpe->vocabulary(), normalizer));
    const int32_t vocab_size = std::max(bpe->vocabulary().size(), added.vocabulary().size());
    if (vocab_size == 0) {
      return absl::InvalidArgumentError("model.vocab: expected tokens, found none");
    }
    CCOE_ASSIGN_OR_RETURN(auto post_processor,
                          PostProcessor::Create(Part(json, "post_processor"), vocab_size));
    CCOE_RETURN_IF_ERROR(CheckIds(post_processor.prefix(), *bpe, added));
    CCOE_RETURN_IF_ERROR(CheckIds(post_processor.suffix(), *bpe, added));
    CCOE_ASSIGN_OR_RETURN(auto decoder, Decoder::Create(Part(json, "decoder")));
    return Parts{
        std::move(normalizer),     std::move(pre_tokenizer), std::move(bpe), std::move(added),
        std::move(post_processor), std::move(decoder),       vocab_size};
  }
};

Tokenizer::Tokenizer(Parts parts)
    : normalizer_(std::move(parts.normalizer)),
      pre_tokenizer_(std::move(parts.pre_tokenizer)),
      bpe_(std::move(parts.bpe)),
      added_tokens_(std::move(parts.added_tokens)),
      post_processor_(std::move(parts.post_processor)),
      decoder_(std::move(parts.decoder)),
      vocab_size_(parts.vocab_size) {}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& model_dir) {
  const std::string path = absl::StrCat(model_dir, "/tokenizer.json");
  CCOE_ASSIGN_OR_RETURN(const Json json, ReadJsonFile(path, kMaxFileBytes));
  absl::StatusOr<Parts> parts = Parts::Create(json);
  if (!parts.ok()) return Annotate(parts.status(), path);
  std::unique_ptr<Tokenizer> tokenizer(new Tokenizer(*std::move(parts)));
  CCOE_ASSIGN_OR_RETURN(tokenizer->config_, ReadTokenizerConfig(model_dir));
  return tokenizer;
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(absl::string_view text,
                                                       bool add_special) const {
  if (text.size() > kMaxTextBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("text: expected at most ", kMaxTextBytes, " bytes, found ", text.size()));
  }
  if (const size_t valid = ValidUtf8Prefix(text); valid != text.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("text: expected UTF-8, found an invalid sequence at byte ", valid));
  }
  std::vector<int32_t> ids;
  if (add_special) ids = post_processor_.prefix();
  for (const AddedTokens::Segment& segment : added_tokens_.Split(text, /*normalized=*/false)) {
    if (segment.token != nullptr) {
      ids.push_back(segment.token->id);
      continue;
    }
    const absl::string_view part = text.substr(segment.begin, segment.end - segment.begin);
    CCOE_RETURN_IF_ERROR(EncodeText(part, segment.begin == 0, ids));
  }
  if (add_special) {
    ids.insert(ids.end(), post_processor_.suffix().begin(), post_processor_.suffix().end());
  }
  return ids;
}

absl::Status Tokenizer::EncodeText(absl::string_view text, bool at_start,
                                   std::vector<int32_t>& ids) const {
  CCOE_ASSIGN_OR_RETURN(const std::string normalized, normalizer_.Apply(std::string(text)));
  for (const AddedTokens::Segment& segment : added_tokens_.Split(normalized, /*normalized=*/true)) {
    if (segment.token != nullptr) {
      ids.push_back(segment.token->id);
      continue;
    }
    const absl::string_view part(normalized.data() + segment.begin, segment.end - segment.begin);
    CCOE_RETURN_IF_ERROR(EncodeWords(part, at_start && segment.begin == 0, ids));
  }
  return absl::OkStatus();
}

absl::Status Tokenizer::EncodeWords(absl::string_view text, bool at_start,
                                    std::vector<int32_t>& ids) const {
  std::vector<Piece> pieces;
  pieces.push_back({std::string(text), at_start});
  CCOE_RETURN_IF_ERROR(pre_tokenizer_.Apply(pieces));
  for (const Piece& piece : pieces) bpe_->Encode(piece.text, ids);
  return absl::OkStatus();
}

absl::StatusOr<std::string> Tokenizer::Decode(absl::Span<const int32_t> ids,
                                              bool skip_special) const {
  const std::unique_ptr<DecodeStream> stream = decoder_.NewStream();
  std::string text;
  for (const int32_t id : ids) {
    CCOE_ASSIGN_OR_RETURN(const std::string* token, TokenForDecoding(id, skip_special));
    if (token == nullptr) continue;
    CCOE_ASSIGN_OR_RETURN(const std::string part, stream->Append(*token));
    text += part;
  }
  CCOE_ASSIGN_OR_RETURN(const std::string rest, stream->Finish());
  return text + rest;
}

absl::StatusOr<const std::string*> Tokenizer::TokenForDecoding(int64_t id,
                                                               bool skip_special) const {
  const std::string* token = FindToken(id);
  if (token == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        "token id: expected one of the vocabulary's, in [0, ", vocab_size_, "), found ", id));
  }
  return skip_special && IsSpecial(id) ? nullptr : token;
}

const std::string* Tokenizer::FindToken(int64_t id) const {
  const std::string* token = added_tokens_.vocabulary().TokenOf(id);
  return token != nullptr ? token : bpe_->vocabulary().TokenOf(id);
}

std::optional<int32_t> Tokenizer::TokenToId(absl::string_view token) const {
  const std::optional<int32_t> added = added_tokens_.vocabulary().Find(token);
  return added.has_value() ? added : bpe_->vocabulary().Find(token);
}

absl::StatusOr<std::string> Tokenizer::IdToToken(int64_t id) const {
  CCOE_ASSIGN_OR_RETURN(const std::string* token, TokenForDecoding(id, /*skip_special=*/false));
  return *token;
}

bool Tokenizer::IsSpecial(int64_t id) const {
  const AddedToken* token = added_tokens_.Find(id);
  return token != nullptr && token->special;
}

std::optional<int32_t> Tokenizer::RoleId(const std::string& token) const {
  return token.empty() ? std::nullopt : TokenToId(token);
}

absl::StatusOr<std::string> StreamingDecoder::Append(int64_t id) {
  if (stream_ == nullptr) return absl::FailedPreconditionError("the text has been finished");
  CCOE_ASSIGN_OR_RETURN(const std::string* token, tokenizer_.TokenForDecoding(id, skip_special_));
  if (token == nullptr) return std::string();
  return stream_->Append(*token);
}

absl::StatusOr<std::string> StreamingDecoder::Finish() {
  if (stream_ == nullptr) return absl::FailedPreconditionError("the text has been finished");
  const std::unique_ptr<DecodeStream> stream = std::move(stream_);
  return stream->Finish();
}

}  // namespace ccoe::tokenizer
