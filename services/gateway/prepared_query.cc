#include "services/gateway/prepared_query.h"

#include <cstdint>
#include <random>

#include "absl/strings/str_cat.h"
#include "runtime/base/ids.h"
#include "runtime/base/status_macros.h"
#include "runtime/engine/request.h"
#include "services/backbone/wire.h"

namespace ccoe::services {
namespace {

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

absl::Status CheckExpertChoice(absl::string_view expert) {
  if (expert.empty() || expert == "base") return absl::OkStatus();
  return Annotate(ExpertRef::Parse(expert).status(), "expert");
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
  CCOE_RETURN_IF_ERROR(Annotate(engine::Validate(sampling, model.spec().vocab_size), "sampling"));
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
