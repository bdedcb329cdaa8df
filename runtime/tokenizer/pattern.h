// SPDX-License-Identifier: Apache-2.0
// A compiled search pattern of a tokenizer file: a literal or a regular expression.
#ifndef CCOE_RUNTIME_TOKENIZER_PATTERN_H_
#define CCOE_RUNTIME_TOKENIZER_PATTERN_H_

#include <cstddef>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ccoe::tokenizer {

// Tokenizer files write regular expressions in Oniguruma's syntax; PCRE2 runs them here. The two
// differ in a few places, which are evened out first: the PCRE2 pattern that means what `pattern`
// means to Oniguruma. UNIMPLEMENTED names what PCRE2 would read in another way: set operations and
// nested sets in a character class, and a + after an interval.
absl::StatusOr<std::string> TranslateOniguruma(absl::string_view pattern);

// Immutable and thread-safe after creation.
class Pattern {
 public:
  struct Match {
    size_t begin = 0;  // bytes
    size_t end = 0;
  };

  // A non-empty string to be found as it is.
  static absl::StatusOr<Pattern> Literal(absl::string_view text);
  // A regular expression in Oniguruma's syntax. INVALID_ARGUMENT if it does not compile.
  static absl::StatusOr<Pattern> Regex(absl::string_view expression);
  // {"String": text} or {"Regex": expression}; `where` names the place in messages.
  static absl::StatusOr<Pattern> FromJson(const nlohmann::json& json, const std::string& where);

  Pattern(Pattern&&) noexcept;
  Pattern& operator=(Pattern&&) noexcept;
  ~Pattern();

  // All matches in `text` (valid UTF-8) from left to right, none overlapping. Empty matches count,
  // except one right after the match before. RESOURCE_EXHAUSTED if the expression backtracks
  // without end.
  absl::StatusOr<std::vector<Match>> FindAll(absl::string_view text) const;

  // `text` with `content` in place of each match; INVALID_ARGUMENT if longer than max_bytes.
  absl::StatusOr<std::string> ReplaceAll(absl::string_view text, absl::string_view content,
                                         size_t max_bytes) const;

 private:
  struct Compiled;

  Pattern();
  std::vector<Match> FindLiteral(absl::string_view text) const;

  std::string literal_;                 // if no expression
  std::unique_ptr<Compiled> compiled_;  // if an expression
};

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_PATTERN_H_
