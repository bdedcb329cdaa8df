// SPDX-License-Identifier: Apache-2.0
// The "post_processor" of tokenizer.json: special tokens before and after the text's own.
#ifndef CCOE_RUNTIME_TOKENIZER_POST_PROCESSOR_H_
#define CCOE_RUNTIME_TOKENIZER_POST_PROCESSOR_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ccoe::tokenizer {

// Immutable and thread-safe after creation.
class PostProcessor {
 public:
  // TemplateProcessing, ByteLevel (which concerns offsets alone, so does nothing here), and
  // Sequence of these; null does nothing. UNIMPLEMENTED names any other type; INVALID_ARGUMENT if a
  // template names a token that it does not define, an id outside [0, vocabulary_size), or does not
  // hold the text exactly once.
  static absl::StatusOr<PostProcessor> Create(const nlohmann::json& json, int32_t vocabulary_size);

  const std::vector<int32_t>& prefix() const { return prefix_; }
  const std::vector<int32_t>& suffix() const { return suffix_; }

 private:
  PostProcessor() = default;
  absl::Status Add(const nlohmann::json& json, const std::string& where, int depth);
  absl::Status AddTemplate(const nlohmann::json& json, const std::string& where);

  int32_t vocabulary_size_ = 0;
  std::vector<int32_t> prefix_;
  std::vector<int32_t> suffix_;
};

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_POST_PROCESSOR_H_
