// Cutting text at the matches of a pattern, in the ways that tokenizer.json knows.
#ifndef CCOE_RUNTIME_TOKENIZER_SPLIT_H_
#define CCOE_RUNTIME_TOKENIZER_SPLIT_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/pattern.h"

namespace ccoe::tokenizer {

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

struct SplitRule {
  Pattern pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // what lies between matches is the delimiter
};

// The pieces of `text` (valid UTF-8) from left to right, none of them empty; views into `text`.
absl::StatusOr<std::vector<absl::string_view>> Split(absl::string_view text, const SplitRule& rule);

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_SPLIT_H_
