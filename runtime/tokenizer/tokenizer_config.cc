#include "runtime/tokenizer/tokenizer_config.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/json_fields.h"

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

}  // namespace ccoe::tokenizer
