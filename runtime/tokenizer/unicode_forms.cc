#include "runtime/tokenizer/unicode_forms.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/tokenizer/utf8.h"

namespace ccoe::tokenizer {
namespace {

// The longest decomposition of one character (U+FDFA) has 18; utf8proc asks for a buffer and
// reports more.
constexpr int kMaxDecomposition = 32;
// Below this every character is its own NFC.
constexpr char32_t kFirstNfcChange = 0x300;

int CombiningClass(utf8proc_int32_t code_point) {
  return static_cast<int>(utf8proc_get_property(code_point)->combining_class);
}

bool IsUnchanged(absl::string_view text, UnicodeForm form) {
  const char32_t bound = form == UnicodeForm::kNfc ? kFirstNfcChange : 0x80;
  for (size_t at = 0; at < text.size();) {
    const Utf8Character character = DecodeUtf8(text, at);
    if (character.code_point >= bound) return false;
    at += character.length;
  }
  return true;
}

// Puts each run of combining marks into canonical order. (utf8proc's own loop is quadratic in the
// run.)
void OrderMarks(std::vector<utf8proc_int32_t>& points) {
  size_t begin = 0;
  while (begin < points.size()) {
    if (CombiningClass(points[begin]) == 0) {
      ++begin;
      continue;
    }
    size_t end = begin + 1;
    while (end < points.size() && CombiningClass(points[end]) != 0) ++end;
    std::stable_sort(points.begin() + begin, points.begin() + end,
                     [](utf8proc_int32_t left, utf8proc_int32_t right) {
                       return CombiningClass(left) < CombiningClass(right);
                     });
    begin = end;
  }
}

std::string Encode(const std::vector<utf8proc_int32_t>& points, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) AppendUtf8(static_cast<char32_t>(points[i]), out);
  return out;
}

}  // namespace

absl::StatusOr<std::string> Normalize(absl::string_view text, UnicodeForm form,
                                      size_t max_characters) {
  if (IsUnchanged(text, form)) return std::string(text);
  const bool compatible = form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd;
  const bool compose = form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc;
  int options = UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE);
  if (compatible) options |= UTF8PROC_COMPAT;
  std::vector<utf8proc_int32_t> points;
  for (size_t at = 0; at < text.size();) {
    const Utf8Character character = DecodeUtf8(text, at);
    at += character.length;
    utf8proc_int32_t parts[kMaxDecomposition];
    int boundary = 0;
    const utf8proc_ssize_t count = utf8proc_decompose_char(
        static_cast<utf8proc_int32_t>(character.code_point), parts, kMaxDecomposition,
        static_cast<utf8proc_option_t>(options), &boundary);
    if (count < 0 || count > kMaxDecomposition || points.size() + count > max_characters) {
      return absl::InvalidArgumentError(absl::StrCat("Unicode normalisation needs more than ",
                                                     max_characters, " characters, at byte ", at));
    }
    points.insert(points.end(), parts, parts + count);
  }
  OrderMarks(points);
  if (!compose) return Encode(points, points.size());
  const utf8proc_ssize_t count =
      utf8proc_normalize_utf32(points.data(), static_cast<utf8proc_ssize_t>(points.size()),
                               static_cast<utf8proc_option_t>(options));
  return Encode(points, static_cast<size_t>(count < 0 ? 0 : count));
}

std::string Lowercase(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Character character = DecodeUtf8(text, at);
    at += character.length;
    if (character.code_point == 0x130) {
      // The one character whose lower case is two.
      absl::StrAppend(&out, "i\xCC\x87");
      continue;
    }
    const auto lower = utf8proc_tolower(static_cast<utf8proc_int32_t>(character.code_point));
    AppendUtf8(static_cast<char32_t>(lower), out);
  }
  return out;
}

}  // namespace ccoe::tokenizer
