// The byte-level alphabet of GPT-2's tokenizer: each of the 256 bytes as one printable character.
#ifndef CCOE_RUNTIME_TOKENIZER_BYTE_ALPHABET_H_
#define CCOE_RUNTIME_TOKENIZER_BYTE_ALPHABET_H_

#include <string>

#include "absl/strings/string_view.h"

namespace ccoe::tokenizer {

// Each byte of `bytes` as its character, in UTF-8.
std::string ToByteAlphabet(absl::string_view bytes);

// The bytes that `token` (valid UTF-8) stands for; a token with a character outside the alphabet
// stands for its own UTF-8 bytes.
std::string FromByteAlphabet(absl::string_view token);

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_BYTE_ALPHABET_H_
