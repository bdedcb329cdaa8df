// What a gateway knows of the model: how text becomes token ids, and how many it takes.
#ifndef CCOE_SERVICES_GATEWAY_MODEL_TEXT_H_
#define CCOE_SERVICES_GATEWAY_MODEL_TEXT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ccoe/v1/inference.pb.h"
#include "runtime/chat_template/chat_template.h"
#include "runtime/model/model_spec.h"
#include "runtime/tokenizer/tokenizer.h"

namespace ccoe::services {

// Thread-safe (const).
class ModelText {
 public:
  // Reads config.json and the tokenizer's files of a model folder; no weights. A chat template that
  // cannot be used is no error here: chats get it.
  static absl::StatusOr<std::unique_ptr<ModelText>> Load(const std::string& folder);

  // All return INVALID_ARGUMENT naming the part that is wrong: text that is not UTF-8 or too long,
  // an id outside the vocabulary, an unknown role, no messages, a model without a chat template.
  absl::StatusOr<std::vector<int32_t>> Encode(const std::string& text, bool add_special) const;
  absl::StatusOr<std::vector<int32_t>> Encode(const v1::Chat& chat) const;
  absl::Status CheckIds(const v1::TokenIds& ids) const;
  absl::StatusOr<std::string> Decode(const v1::TokenIds& ids, bool skip_special) const;

  const tokenizer::Tokenizer& tokenizer() const { return *tokenizer_; }
  const model::ModelSpec& spec() const { return spec_; }

 private:
  ModelText() = default;

  model::ModelSpec spec_;
  std::unique_ptr<const tokenizer::Tokenizer> tokenizer_;
  std::unique_ptr<const chat_template::ChatTemplate> chat_template_;  // null: no_chat_ says why
  absl::Status no_chat_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_GATEWAY_MODEL_TEXT_H_
