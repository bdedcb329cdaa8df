// SPDX-License-Identifier: Apache-2.0
// Chat templates. Input: the template, a zero byte, then role, zero byte, content, zero byte for
// each message.
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "runtime/base/check.h"
#include "runtime/chat_template/chat_template.h"
#include "tests/fuzz/fuzz_input.h"

namespace ccoe::chat_template {

void RenderChat(FuzzInput input) {
  // Less than a gateway allows, so that many inputs are tried.
  JinjaLimits limits;
  limits.max_steps = 100'000;
  limits.max_output_bytes = 1 << 20;
  const auto chat_template = ChatTemplate::Create(input.Part(), limits);
  if (!chat_template.ok()) {
    CCOE_CHECK(chat_template.status().code() == absl::StatusCode::kInvalidArgument ||
               chat_template.status().code() == absl::StatusCode::kUnimplemented);
    CCOE_CHECK(!chat_template.status().message().empty());
    return;
  }
  Chat chat;
  chat.bos_token = "<s>";
  chat.eos_token = "</s>";
  chat.add_generation_prompt = input.Byte() % 2 == 0;
  while (!input.empty() && chat.messages.size() < 8) {
    const std::string role(input.Part());
    chat.messages.push_back({role, std::string(input.Part())});
  }
  const auto text = (*chat_template)->Render(chat);
  if (text.ok()) {
    CCOE_CHECK(text->size() <= limits.max_output_bytes);
    return;
  }
  CCOE_CHECK(!text.status().message().empty());
}

}  // namespace ccoe::chat_template

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ccoe::chat_template::RenderChat({data, size});
  return 0;
}
