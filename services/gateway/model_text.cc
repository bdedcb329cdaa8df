#include "services/gateway/model_text.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/families/hf_config.h"

namespace ccoe::services {
namespace {

constexpr int kMaxMessages = 1024;

absl::Status CheckMessages(const v1::Chat& chat) {
  if (chat.messages_size() < 1 || chat.messages_size() > kMaxMessages) {
    return absl::InvalidArgumentError(absl::StrCat("chat: expected 1 to ", kMaxMessages,
                                                   " messages, found ", chat.messages_size()));
  }
  for (int i = 0; i < chat.messages_size(); ++i) {
    const std::string& role = chat.messages(i).role();
    if (role == "system" || role == "user" || role == "assistant") continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "chat.messages[", i, "].role: expected \"system\", \"user\" or \"assistant\", found \"",
        role, "\""));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelText>> ModelText::Load(const std::string& folder) {
  std::unique_ptr<ModelText> text(new ModelText());
  CCOE_ASSIGN_OR_RETURN(text->spec_, model::LoadModelSpec(folder));
  CCOE_ASSIGN_OR_RETURN(text->tokenizer_, tokenizer::Tokenizer::Load(folder));
  const tokenizer::TokenizerConfig& config = text->tokenizer_->config();
  if (config.chat_template.empty()) {
    text->no_chat_ =
        absl::InvalidArgumentError("chat: this model has no chat template; send text or token_ids");
    return text;
  }
  absl::StatusOr<std::unique_ptr<chat_template::ChatTemplate>> chat =
      chat_template::ChatTemplate::Create(config.chat_template);
  if (chat.ok()) {
    text->chat_template_ = *std::move(chat);
  } else {
    text->no_chat_ = Annotate(chat.status(), "chat: the model's chat template");
    LOG(WARNING) << folder << ": chats will be refused: " << chat.status().message();
  }
  return text;
}

absl::StatusOr<std::vector<int32_t>> ModelText::Encode(const std::string& text,
                                                       bool add_special) const {
  absl::StatusOr<std::vector<int32_t>> ids = tokenizer_->Encode(text, add_special);
  if (!ids.ok()) return Annotate(ids.status(), "text");
  return ids;
}

absl::StatusOr<std::vector<int32_t>> ModelText::Encode(const v1::Chat& chat) const {
  CCOE_RETURN_IF_ERROR(CheckMessages(chat));
  CCOE_RETURN_IF_ERROR(no_chat_);
  chat_template::Chat messages;
  messages.bos_token = tokenizer_->config().bos_token;
  messages.eos_token = tokenizer_->config().eos_token;
  for (const v1::ChatMessage& message : chat.messages()) {
    messages.messages.push_back({message.role(), message.content()});
  }
  absl::StatusOr<std::string> rendered = chat_template_->Render(messages);
  // Also where it grew past a limit: RESOURCE_EXHAUSTED would tell the client to come back later.
  if (!rendered.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("chat: ", rendered.status().message()));
  }
  // The template writes the special tokens itself.
  absl::StatusOr<std::vector<int32_t>> ids = tokenizer_->Encode(*rendered, /*add_special=*/false);
  if (!ids.ok()) return Annotate(ids.status(), "chat");
  return ids;
}

absl::Status ModelText::CheckIds(const v1::TokenIds& ids) const {
  for (int i = 0; i < ids.ids_size(); ++i) {
    if (ids.ids(i) >= 0 && ids.ids(i) < spec_.vocab_size) continue;
    return absl::InvalidArgumentError(absl::StrCat("token_ids[", i, "]: expected 0 to ",
                                                   spec_.vocab_size - 1, ", found ", ids.ids(i)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ModelText::Decode(const v1::TokenIds& ids, bool skip_special) const {
  CCOE_RETURN_IF_ERROR(CheckIds(ids));
  const std::vector<int32_t> list(ids.ids().begin(), ids.ids().end());
  absl::StatusOr<std::string> text = tokenizer_->Decode(list, skip_special);
  if (!text.ok()) return Annotate(text.status(), "token_ids");
  return text;
}

}  // namespace ccoe::services
