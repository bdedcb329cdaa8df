// SPDX-License-Identifier: Apache-2.0
// Texts by their characters: UTF-8 by hand, Unicode's normalisation forms and lower case over
// utf8proc's tables, and bytes as characters. Pure functions, safe from any thread.
#ifndef CCOE_RUNTIME_TOKENIZER_UNICODE_H_
#define CCOE_RUNTIME_TOKENIZER_UNICODE_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ccoe::tokenizer {

// U+FFFD, which stands for bytes that are not valid UTF-8.
inline constexpr char kReplacementCharacter[] = "\xEF\xBF\xBD";

enum class Utf8State {
  kValid,       // a whole character
  kInvalid,     // no character can start with these bytes
  kIncomplete,  // the bytes end inside what may become a character
};

// The first sequence of some bytes. For kInvalid, `length` is that of the maximal subpart, the
// bytes that one U+FFFD replaces (Unicode 15, section 3.9); for kIncomplete all remaining bytes.
struct Utf8Sequence {
  Utf8State state = Utf8State::kValid;
  size_t length = 0;
};

// Looks at the first sequence of `bytes`, which must not be empty.
Utf8Sequence ScanUtf8(absl::string_view bytes);

// Bytes of the longest valid prefix: text.size() if all of it is valid.
size_t ValidUtf8Prefix(absl::string_view text);

struct Utf8Character {
  char32_t code_point = 0;
  size_t length = 0;  // in bytes
};

// The character at `offset` of valid UTF-8; offset must be on a boundary and before the end.
Utf8Character DecodeUtf8(absl::string_view text, size_t offset);

void AppendUtf8(char32_t code_point, std::string& out);

// `text` without its first (last) character while `strip` says so. Valid UTF-8 only.
absl::string_view StripLeft(absl::string_view text, bool (*strip)(char32_t));
absl::string_view StripRight(absl::string_view text, bool (*strip)(char32_t));

// Unicode's White_Space property.
bool IsWhitespace(char32_t code_point);
// What regular expressions with Unicode call a word character (\w): letters, marks, digits,
// connectors.
bool IsWordCharacter(char32_t code_point);

enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };

// `text` (valid UTF-8) in `form` (Unicode Standard Annex 15). INVALID_ARGUMENT if that needs more
// than max_characters. Time O(n log n) whatever the text, runs of combining marks included.
absl::StatusOr<std::string> Normalize(absl::string_view text, UnicodeForm form,
                                      size_t max_characters);

// Lower case character by character, without regard to context; `text` is valid UTF-8.
std::string Lowercase(absl::string_view text);

// The byte-level alphabet of GPT-2's tokenizer writes each of the 256 bytes as one printable
// character. Each byte of `bytes` as its character, in UTF-8.
std::string ToByteAlphabet(absl::string_view bytes);

// The bytes that `token` (valid UTF-8) stands for; a token with a character outside the alphabet
// stands for its own UTF-8 bytes.
std::string FromByteAlphabet(absl::string_view token);

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_UNICODE_H_
