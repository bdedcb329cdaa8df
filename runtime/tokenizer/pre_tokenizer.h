// The "pre_tokenizer" of tokenizer.json: cuts text into the words that merging never crosses.
#ifndef CCOE_RUNTIME_TOKENIZER_PRE_TOKENIZER_H_
#define CCOE_RUNTIME_TOKENIZER_PRE_TOKENIZER_H_

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ccoe::tokenizer {

// A piece of text on its way to becoming words.
struct Piece {
  std::string text;       // valid UTF-8, not empty
  bool at_start = false;  // it begins where the whole text begins
};

// Immutable and thread-safe after creation.
class PreTokenizer {
 public:
  // One step: replaces each piece by what it is cut into.
  class Step;

  // ByteLevel, Split, Metaspace, Digits, Whitespace, WhitespaceSplit, Punctuation, and Sequence of
  // these; null does nothing. UNIMPLEMENTED names any other type.
  static absl::StatusOr<PreTokenizer> Create(const nlohmann::json& json);

  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  ~PreTokenizer();

  absl::Status Apply(std::vector<Piece>& pieces) const;

 private:
  PreTokenizer();

  std::vector<std::unique_ptr<Step>> steps_;
};

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_PRE_TOKENIZER_H_
