// What Python's str methods do, for templates. Texts are valid UTF-8; positions count characters.
#ifndef CCOE_RUNTIME_TOKENIZER_JINJA_TEXT_H_
#define CCOE_RUNTIME_TOKENIZER_JINJA_TEXT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace ccoe::tokenizer {

enum class TextSide { kLeft, kRight, kBoth };

// str.strip: characters of `characters`, or white space if there is none given.
std::string StripText(absl::string_view text, const std::optional<std::string>& characters,
                      TextSide side);
std::string UpperText(absl::string_view text);
// The first character in upper case, the others in lower case.
std::string CapitalizeText(absl::string_view text);
// The same for each run of letters.
std::string TitleText(absl::string_view text);
// str.split: at each `separator`, or at runs of white space without one; at most `limit` cuts
// unless negative.
std::vector<std::string> SplitText(absl::string_view text,
                                   const std::optional<std::string>& separator, int64_t limit);
// The characters, as views into `text`.
std::vector<absl::string_view> Characters(absl::string_view text);

// The positions that Python's [start:stop:step] picks of `size`; step is not 0.
std::vector<size_t> SlicePositions(int64_t size, std::optional<int64_t> start,
                                   std::optional<int64_t> stop, int64_t step);

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_JINJA_TEXT_H_
