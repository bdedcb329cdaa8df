// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat_template/chat_template.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/chat_template/jinja_lexer.h"
#include "runtime/tokenizer/unicode.h"

namespace ccoe::chat_template {
namespace {

constexpr size_t kMaxTemplateBytes = 1 << 20;
constexpr size_t kMaxMessages = 100'000;

absl::Status ExpectUtf8(absl::string_view text, absl::string_view what) {
  const size_t valid = tokenizer::ValidUtf8Prefix(text);
  if (valid == text.size()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": expected UTF-8, found an invalid sequence at byte ", valid));
}

absl::StatusOr<JinjaValue> Messages(const Chat& chat) {
  if (chat.messages.size() > kMaxMessages) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected at most ", kMaxMessages, " messages, found ", chat.messages.size()));
  }
  JinjaValue::List messages;
  for (size_t i = 0; i < chat.messages.size(); ++i) {
    const ChatMessage& message = chat.messages[i];
    const std::string where = absl::StrCat("message ", i);
    CCOE_RETURN_IF_ERROR(ExpectUtf8(message.role, absl::StrCat(where, ", role")));
    CCOE_RETURN_IF_ERROR(ExpectUtf8(message.content, absl::StrCat(where, ", content")));
    CCOE_ASSIGN_OR_RETURN(JinjaValue value, JinjaValue::MakeDict({{"role", message.role},
                                                                  {"content", message.content}}));
    messages.push_back(std::move(value));
  }
  return JinjaValue::MakeList(std::move(messages));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Create(absl::string_view source,
                                                                   const JinjaLimits& limits) {
  if (source.size() > kMaxTemplateBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "chat template: expected at most ", kMaxTemplateBytes, " bytes, found ", source.size()));
  }
  CCOE_RETURN_IF_ERROR(ExpectUtf8(source, "chat template"));
  absl::StatusOr<std::vector<JinjaToken>> tokens = LexJinja(source);
  if (!tokens.ok()) return Annotate(tokens.status(), "chat template");
  absl::StatusOr<JinjaStatement::Body> body = ParseJinja(*std::move(tokens));
  if (!body.ok()) return Annotate(body.status(), "chat template");
  return std::unique_ptr<ChatTemplate>(new ChatTemplate(*std::move(body), limits));
}

absl::StatusOr<std::string> ChatTemplate::Render(const Chat& chat) const {
  JinjaVariables variables;
  CCOE_ASSIGN_OR_RETURN(variables["messages"], Messages(chat));
  CCOE_RETURN_IF_ERROR(ExpectUtf8(chat.bos_token, "bos_token"));
  CCOE_RETURN_IF_ERROR(ExpectUtf8(chat.eos_token, "eos_token"));
  variables["add_generation_prompt"] = JinjaValue(chat.add_generation_prompt);
  variables["bos_token"] = JinjaValue(chat.bos_token);
  variables["eos_token"] = JinjaValue(chat.eos_token);
  absl::StatusOr<std::string> text = EvaluateJinja(body_, variables, limits_);
  if (!text.ok()) return Annotate(text.status(), "chat template");
  return text;
}

}  // namespace ccoe::chat_template
