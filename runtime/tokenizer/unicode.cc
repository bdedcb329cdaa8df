// SPDX-License-Identifier: Apache-2.0
#include "runtime/tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"

namespace ccoe::tokenizer {
namespace {

// What a lead byte asks for: how many continuation bytes, and the range of the first of them.
struct Lead {
  size_t continuations;
  uint8_t low;
  uint8_t high;
};

Lead LeadOf(uint8_t byte) {
  if (byte >= 0xC2 && byte <= 0xDF) return {1, 0x80, 0xBF};
  if (byte == 0xE0) return {2, 0xA0, 0xBF};
  if (byte == 0xED) return {2, 0x80, 0x9F};
  if (byte >= 0xE1 && byte <= 0xEF) return {2, 0x80, 0xBF};
  if (byte == 0xF0) return {3, 0x90, 0xBF};
  if (byte >= 0xF1 && byte <= 0xF3) return {3, 0x80, 0xBF};
  if (byte == 0xF4) return {3, 0x80, 0x8F};
  return {0, 0, 0};
}

bool IsContinuation(char byte) { return (static_cast<uint8_t>(byte) & 0xC0) == 0x80; }

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

constexpr int kNone = -1;
// 188 bytes are printable Latin-1 characters and stand for themselves; the other 68 follow from
// U+0100.
constexpr char32_t kFirstExtra = 0x100;
constexpr int kCharacters = 0x100 + 68;

constexpr bool StandsForItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Tables {
  std::array<char32_t, 256> character_of{};
  std::array<int, kCharacters> byte_of{};
};

constexpr Tables MakeTables() {
  Tables tables;
  for (int& byte : tables.byte_of) byte = kNone;
  char32_t extra = kFirstExtra;
  for (int byte = 0; byte < 256; ++byte) {
    const char32_t character = StandsForItself(byte) ? static_cast<char32_t>(byte) : extra++;
    tables.character_of[byte] = character;
    tables.byte_of[character] = byte;
  }
  return tables;
}

constexpr Tables kTables = MakeTables();

}  // namespace

Utf8Sequence ScanUtf8(absl::string_view bytes) {
  const uint8_t first = static_cast<uint8_t>(bytes[0]);
  if (first < 0x80) return {Utf8State::kValid, 1};
  const Lead lead = LeadOf(first);
  if (lead.continuations == 0) return {Utf8State::kInvalid, 1};
  for (size_t i = 1; i <= lead.continuations; ++i) {
    if (i >= bytes.size()) return {Utf8State::kIncomplete, bytes.size()};
    const uint8_t byte = static_cast<uint8_t>(bytes[i]);
    const uint8_t low = i == 1 ? lead.low : 0x80;
    const uint8_t high = i == 1 ? lead.high : 0xBF;
    if (byte < low || byte > high) return {Utf8State::kInvalid, i};
  }
  return {Utf8State::kValid, lead.continuations + 1};
}

size_t ValidUtf8Prefix(absl::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const Utf8Sequence sequence = ScanUtf8(text.substr(at));
    if (sequence.state != Utf8State::kValid) return at;
    at += sequence.length;
  }
  return at;
}

Utf8Character DecodeUtf8(absl::string_view text, size_t offset) {
  const uint8_t first = static_cast<uint8_t>(text[offset]);
  if (first < 0x80) return {first, 1};
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  char32_t code_point = first & (0xFF >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    code_point = (code_point << 6) | (static_cast<uint8_t>(text[offset + i]) & 0x3F);
  }
  return {code_point, length};
}

void AppendUtf8(char32_t code_point, std::string& out) {
  if (code_point < 0x80) {
    out.push_back(static_cast<char>(code_point));
  } else if (code_point < 0x800) {
    out.push_back(static_cast<char>(0xC0 | (code_point >> 6)));
    out.push_back(static_cast<char>(0x80 | (code_point & 0x3F)));
  } else if (code_point < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | (code_point >> 12)));
    out.push_back(static_cast<char>(0x80 | ((code_point >> 6) & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (code_point & 0x3F)));
  } else {
    out.push_back(static_cast<char>(0xF0 | (code_point >> 18)));
    out.push_back(static_cast<char>(0x80 | ((code_point >> 12) & 0x3F)));
    out.push_back(static_cast<char>(0x80 | ((code_point >> 6) & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (code_point & 0x3F)));
  }
}

absl::string_view StripLeft(absl::string_view text, bool (*strip)(char32_t)) {
  while (!text.empty()) {
    const Utf8Character character = DecodeUtf8(text, 0);
    if (!strip(character.code_point)) break;
    text.remove_prefix(character.length);
  }
  return text;
}

absl::string_view StripRight(absl::string_view text, bool (*strip)(char32_t)) {
  while (!text.empty()) {
    size_t start = text.size() - 1;
    while (start > 0 && IsContinuation(text[start])) --start;
    if (!strip(DecodeUtf8(text, start).code_point)) break;
    text.remove_suffix(text.size() - start);
  }
  return text;
}

bool IsWhitespace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool IsWordCharacter(char32_t code_point) {
  if (code_point == 0x200C || code_point == 0x200D) return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code_point))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

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

std::string ToByteAlphabet(absl::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char byte : bytes) AppendUtf8(kTables.character_of[static_cast<uint8_t>(byte)], out);
  return out;
}

std::string FromByteAlphabet(absl::string_view token) {
  std::string out;
  for (size_t at = 0; at < token.size();) {
    const Utf8Character character = DecodeUtf8(token, at);
    at += character.length;
    const int byte =
        character.code_point < kCharacters ? kTables.byte_of[character.code_point] : kNone;
    if (byte == kNone) return std::string(token);
    out.push_back(static_cast<char>(byte));
  }
  return out;
}

}  // namespace ccoe::tokenizer
