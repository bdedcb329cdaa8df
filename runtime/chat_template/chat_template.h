// SPDX-License-Identifier: Apache-2.0
// A model's chat template: messages to the text that the model was trained on. Templates are
// written in Jinja, of which this is the part that chat templates use: for, if, set, expressions,
// filters, tests, and white space control as Hugging Face's transformers sets it.
#ifndef CCOE_RUNTIME_CHAT_TEMPLATE_CHAT_TEMPLATE_H_
#define CCOE_RUNTIME_CHAT_TEMPLATE_CHAT_TEMPLATE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/chat_template/jinja_evaluator.h"
#include "runtime/chat_template/jinja_parser.h"

namespace ccoe::chat_template {

struct ChatMessage {
  std::string role;     // "system", "user", "assistant", ...
  std::string content;  // UTF-8
};

struct Chat {
  std::vector<ChatMessage> messages;
  bool add_generation_prompt = true;  // end with what the assistant's answer starts with
  std::string bos_token;              // as the tokenizer's config names them
  std::string eos_token;
};

// Thread-safe after creation.
class ChatTemplate {
 public:
  // INVALID_ARGUMENT for a template with errors, UNIMPLEMENTED for parts of Jinja not known here;
  // both name the line.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Create(absl::string_view source,
                                                              const JinjaLimits& limits = {});

  // The chat as one text, to be encoded without adding special tokens (the template writes them).
  // INVALID_ARGUMENT if a message is not UTF-8, or the template refuses the chat;
  // RESOURCE_EXHAUSTED past the limits.
  absl::StatusOr<std::string> Render(const Chat& chat) const;

 private:
  ChatTemplate(JinjaStatement::Body body, const JinjaLimits& limits)
      : body_(std::move(body)), limits_(limits) {}

  JinjaStatement::Body body_;
  JinjaLimits limits_;
};

}  // namespace ccoe::chat_template

#endif  // CCOE_RUNTIME_CHAT_TEMPLATE_CHAT_TEMPLATE_H_
