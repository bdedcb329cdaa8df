// SPDX-License-Identifier: Apache-2.0
// The "normalizer" of tokenizer.json: what happens to text before it is cut into words.
#ifndef CCOE_RUNTIME_TOKENIZER_NORMALIZER_H_
#define CCOE_RUNTIME_TOKENIZER_NORMALIZER_H_

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace ccoe::tokenizer {

// Immutable and thread-safe after creation.
class Normalizer {
 public:
  // One step: text (valid UTF-8, not empty) in, text out.
  class Step;

  // NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip, and Sequence of these; null does
  // nothing. UNIMPLEMENTED names any other type.
  static absl::StatusOr<Normalizer> Create(const nlohmann::json& json);

  Normalizer(Normalizer&&) noexcept;
  Normalizer& operator=(Normalizer&&) noexcept;
  ~Normalizer();

  bool empty() const { return steps_.empty(); }

  // INVALID_ARGUMENT if the text grows past 64 MiB.
  absl::StatusOr<std::string> Apply(std::string text) const;

 private:
  Normalizer();

  std::vector<std::unique_ptr<Step>> steps_;
};

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_NORMALIZER_H_
