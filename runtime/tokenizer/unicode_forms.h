// Unicode normalisation forms and lower case, over utf8proc's tables. Pure functions.
#ifndef CCOE_RUNTIME_TOKENIZER_UNICODE_FORMS_H_
#define CCOE_RUNTIME_TOKENIZER_UNICODE_FORMS_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ccoe::tokenizer {

enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };

// `text` (valid UTF-8) in `form` (Unicode Standard Annex 15). INVALID_ARGUMENT if that needs more
// than max_characters. Time O(n log n) whatever the text, runs of combining marks included.
absl::StatusOr<std::string> Normalize(absl::string_view text, UnicodeForm form,
                                      size_t max_characters);

// Lower case character by character, without regard to context; `text` is valid UTF-8.
std::string Lowercase(absl::string_view text);

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_UNICODE_FORMS_H_
