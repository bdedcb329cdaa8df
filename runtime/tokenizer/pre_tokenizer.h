// SPDX-License-Identifier: Apache-2.0
// The "pre_tokenizer" of tokenizer.json: cuts text into the words that merging never crosses.
#ifndef CCOE_RUNTIME_TOKENIZER_PRE_TOKENIZER_H_
#define CCOE_RUNTIME_TOKENIZER_PRE_TOKENIZER_H_

#include <cstddef>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/pattern.h"

namespace ccoe::tokenizer {

// Where a blank is put before text that does not start with one.
enum class PrependScheme { kNever, kFirst, kAlways };

// The settings that the Metaspace pre-tokenizer and decoder share: blanks written as a visible
// character.
struct Metaspace {
  std::string replacement;  // one character, U+2581 as a rule
  PrependScheme prepend = PrependScheme::kAlways;
  bool split = true;  // each blank starts a word
};

// The object of type "Metaspace", in its present form (prepend_scheme) or the former
// (add_prefix_space).
absl::StatusOr<Metaspace> ParseMetaspace(const nlohmann::json& json, const std::string& where);

// What becomes of a match (the delimiter).
enum class SplitBehavior {
  kRemoved,             // dropped
  kIsolated,            // a piece of its own
  kMergedWithPrevious,  // the end of the piece before
  kMergedWithNext,      // the start of the piece after
  kContiguous,          // a piece of its own, together with matches that touch it
};

// "Removed", "Isolated", ...; INVALID_ARGUMENT for another name.
absl::StatusOr<SplitBehavior> ParseSplitBehavior(const std::string& name, const std::string& where);

// A way to split text at the matches of a pattern.
struct SplitRule {
  Pattern pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // what lies between matches is the delimiter
};

// The pieces of `text` (valid UTF-8) from left to right, none of them empty; views into `text`.
absl::StatusOr<std::vector<absl::string_view>> Split(absl::string_view text, const SplitRule& rule);

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
