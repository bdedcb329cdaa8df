// Tokenizer files write regular expressions in Oniguruma's syntax; PCRE2 runs them here. The two
// differ in a few places, and this is where they are evened out.
#ifndef CCOE_RUNTIME_TOKENIZER_REGEX_SYNTAX_H_
#define CCOE_RUNTIME_TOKENIZER_REGEX_SYNTAX_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ccoe::tokenizer {

// The PCRE2 pattern that means what `pattern` means to Oniguruma. UNIMPLEMENTED names what PCRE2
// would read in another way: set operations and nested sets in a character class, and a + after an
// interval.
absl::StatusOr<std::string> TranslateOniguruma(absl::string_view pattern);

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_REGEX_SYNTAX_H_
