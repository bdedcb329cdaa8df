// SPDX-License-Identifier: Apache-2.0
// A client's request, checked against the model, tokenized and made ready for the router and a
// backbone worker.
#ifndef CCOE_SERVICES_GATEWAY_PREPARED_QUERY_H_
#define CCOE_SERVICES_GATEWAY_PREPARED_QUERY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ccoe/v1/backbone.pb.h"
#include "ccoe/v1/inference.pb.h"
#include "ccoe/v1/routing.pb.h"
#include "runtime/chat_template/chat_template.h"
#include "runtime/model/model_spec.h"
#include "runtime/tokenizer/tokenizer.h"

namespace ccoe::services {

// What a gateway knows of the model: how text becomes token ids, and how many it takes. Thread-safe
// (const).
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

struct PreparedQuery {
  v1::RouteRequest route;
  v1::BackboneGenerateRequest backbone;  // the expert is the router's to fill in
  std::vector<std::string> stops;
};

// INVALID_ARGUMENT names the field, its range and what was found. An empty request id is replaced
// by a fresh one.
absl::StatusOr<PreparedQuery> PrepareQuery(const v1::GenerateRequest& request,
                                           const ModelText& model);

// "math", "math@2", "base" or empty; INVALID_ARGUMENT otherwise.
absl::Status CheckExpertChoice(absl::string_view expert);

// The beginning of `text` that the router looks at (64 KiB), cut at the end of a character.
std::string RoutedPart(const std::string& text);

// INVALID_ARGUMENT where `value` of the field `what` is longer than 128 bytes.
absl::Status CheckName(absl::string_view what, absl::string_view value);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_GATEWAY_PREPARED_QUERY_H_
