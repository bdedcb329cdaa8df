// SPDX-License-Identifier: Apache-2.0
#include "services/gateway/prepared_query.h"

#include <cstdint>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "runtime/base/ids.h"
#include "runtime/base/status_macros.h"
#include "runtime/engine/request.h"
#include "runtime/model/families/hf_config.h"
#include "services/backbone/proto_conversions.h"

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

constexpr int kMaxStops = 16;
constexpr size_t kMaxStopBytes = 256;
constexpr size_t kMaxNameBytes = 128;
constexpr size_t kMaxRoutedBytes = 64 << 10;  // RouteRequest.text

std::string NewRequestId() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  return absl::StrCat("q-", absl::Hex(random(), absl::kZeroPad16));
}

absl::Status CheckStops(const v1::GenerateRequest& request) {
  if (request.stop_size() > kMaxStops) {
    return absl::InvalidArgumentError(absl::StrCat("stop: expected at most ", kMaxStops,
                                                   " strings, found ", request.stop_size()));
  }
  for (int i = 0; i < request.stop_size(); ++i) {
    const size_t size = request.stop(i).size();
    if (size < 1 || size > kMaxStopBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("stop[", i, "]: expected 1 to ", kMaxStopBytes, " bytes, found ", size));
    }
  }
  return absl::OkStatus();
}

// What the rules look at: the last message of the user.
std::string RoutedMessage(const v1::Chat& chat) {
  for (int i = chat.messages_size() - 1; i >= 0; --i) {
    if (chat.messages(i).role() == "user") return chat.messages(i).content();
  }
  return "";
}

struct Prompt {
  std::vector<int32_t> ids;
  std::string routed_text;
};

absl::StatusOr<Prompt> ReadPrompt(const v1::GenerateRequest& request, const ModelText& model) {
  Prompt prompt;
  switch (request.input_case()) {
    case v1::GenerateRequest::kText: {
      CCOE_ASSIGN_OR_RETURN(prompt.ids, model.Encode(request.text(), /*add_special=*/true));
      prompt.routed_text = request.text();
      return prompt;
    }
    case v1::GenerateRequest::kTokenIds:
      CCOE_RETURN_IF_ERROR(model.CheckIds(request.token_ids()));
      prompt.ids.assign(request.token_ids().ids().begin(), request.token_ids().ids().end());
      return prompt;
    case v1::GenerateRequest::kChat: {
      CCOE_ASSIGN_OR_RETURN(prompt.ids, model.Encode(request.chat()));
      prompt.routed_text = RoutedMessage(request.chat());
      return prompt;
    }
    case v1::GenerateRequest::INPUT_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("input: expected text, token_ids or chat, found none");
}

absl::Status CheckLength(const Prompt& prompt, const ModelText& model) {
  const int64_t longest = model.spec().max_positions - 1;
  const auto found = static_cast<int64_t>(prompt.ids.size());
  if (found >= 1 && found <= longest) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("prompt: expected 1 to ", longest,
                                                 " tokens (the model's context is ",
                                                 model.spec().max_positions, "), found ", found));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelText>> ModelText::Load(const std::string& folder) {
  std::unique_ptr<ModelText> text(new ModelText());
  CCOE_ASSIGN_OR_RETURN(text->spec_, model::LoadModelSpec(folder));
  CCOE_ASSIGN_OR_RETURN(text->tokenizer_, tokenizer::Tokenizer::Load(folder));
  const tokenizer::TokenizerConfig& config = text->tokenizer_->config();
  if (config.chat_template.empty()) {
    text->no_chat_ = absl::InvalidArgumentError(
        "chat: this model has no chat template; send text or "
        "token_ids (ccoe generate: --raw)");
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

absl::Status CheckExpertChoice(absl::string_view expert) {
  if (expert.empty() || expert == "base") return absl::OkStatus();
  return ExpertRef::Parse(expert).status();
}

std::string RoutedPart(const std::string& text) {
  if (text.size() <= kMaxRoutedBytes) return text;
  size_t end = kMaxRoutedBytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end);
}

absl::Status CheckName(absl::string_view what, absl::string_view value) {
  if (value.size() <= kMaxNameBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": expected at most ", kMaxNameBytes, " bytes, found ", value.size()));
}

absl::StatusOr<PreparedQuery> PrepareQuery(const v1::GenerateRequest& request,
                                           const ModelText& model) {
  CCOE_RETURN_IF_ERROR(CheckName("tenant", request.tenant()));
  CCOE_RETURN_IF_ERROR(CheckName("request_id", request.request_id()));
  CCOE_RETURN_IF_ERROR(CheckExpertChoice(request.expert()));
  CCOE_RETURN_IF_ERROR(CheckStops(request));
  const engine::SamplingParams sampling = SamplingFromProto(request.sampling());
  CCOE_RETURN_IF_ERROR(engine::Validate(sampling, model.spec().vocab_size));
  CCOE_ASSIGN_OR_RETURN(const Prompt prompt, ReadPrompt(request, model));
  CCOE_RETURN_IF_ERROR(CheckLength(prompt, model));

  PreparedQuery query;
  const std::string id = request.request_id().empty() ? NewRequestId() : request.request_id();
  query.route.set_request_id(id);
  query.route.set_text(RoutedPart(prompt.routed_text));
  query.route.set_expert(request.expert());
  query.route.set_tenant(request.tenant());
  query.route.set_prompt_tokens(static_cast<int64_t>(prompt.ids.size()));
  if (request.has_moe()) *query.backbone.mutable_moe() = request.moe();
  query.backbone.set_request_id(id);
  query.backbone.mutable_prompt()->Add(prompt.ids.begin(), prompt.ids.end());
  *query.backbone.mutable_sampling() = request.sampling();
  query.stops.assign(request.stop().begin(), request.stop().end());
  return query;
}

}  // namespace ccoe::services
