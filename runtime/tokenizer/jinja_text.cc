#include "runtime/tokenizer/jinja_text.h"

#include <utf8proc.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/tokenizer/unicode_forms.h"
#include "runtime/tokenizer/utf8.h"

namespace ccoe::tokenizer {
namespace {

// Python's str.isspace also takes the four separators of ASCII.
bool IsPythonSpace(char32_t c) { return IsWhitespace(c) || (c >= 0x1C && c <= 0x1F); }

bool IsLetter(absl::string_view character) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(DecodeUtf8(character, 0).code_point))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
      return true;
    default:
      return false;
  }
}

absl::string_view StripOf(absl::string_view text, const std::string& characters, TextSide side) {
  const std::vector<absl::string_view> all = Characters(text);
  const std::vector<absl::string_view> strip = Characters(characters);
  const auto goes = [&strip](absl::string_view character) {
    return std::find(strip.begin(), strip.end(), character) != strip.end();
  };
  size_t begin = 0;
  size_t end = all.size();
  if (side != TextSide::kRight) {
    while (begin < end && goes(all[begin])) ++begin;
  }
  if (side != TextSide::kLeft) {
    while (end > begin && goes(all[end - 1])) --end;
  }
  if (begin == end) return "";
  const char* first = all[begin].data();
  return absl::string_view(first, all[end - 1].data() + all[end - 1].size() - first);
}

std::vector<std::string> SplitAtSpace(absl::string_view text, int64_t limit) {
  std::vector<std::string> parts;
  text = StripLeft(text, IsPythonSpace);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<int64_t>(parts.size()) >= limit) {
      parts.emplace_back(StripRight(text, IsPythonSpace));
      break;
    }
    const absl::string_view rest =
        StripLeft(text, [](char32_t character) { return !IsPythonSpace(character); });
    parts.emplace_back(text.substr(0, text.size() - rest.size()));
    text = StripLeft(rest, IsPythonSpace);
  }
  return parts;
}

}  // namespace

std::vector<absl::string_view> Characters(absl::string_view text) {
  std::vector<absl::string_view> characters;
  for (size_t at = 0; at < text.size();) {
    const size_t length = DecodeUtf8(text, at).length;
    characters.push_back(text.substr(at, length));
    at += length;
  }
  return characters;
}

std::string StripText(absl::string_view text, const std::optional<std::string>& characters,
                      TextSide side) {
  if (characters.has_value()) return std::string(StripOf(text, *characters, side));
  if (side != TextSide::kRight) text = StripLeft(text, IsPythonSpace);
  if (side != TextSide::kLeft) text = StripRight(text, IsPythonSpace);
  return std::string(text);
}

std::string UpperText(absl::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Utf8Character character = DecodeUtf8(text, at);
    at += character.length;
    if (character.code_point == 0xDF) {
      out += "SS";  // the sharp s, the commonest of the letters that become two
      continue;
    }
    const auto upper = utf8proc_toupper(static_cast<utf8proc_int32_t>(character.code_point));
    AppendUtf8(static_cast<char32_t>(upper), out);
  }
  return out;
}

std::string CapitalizeText(absl::string_view text) {
  if (text.empty()) return "";
  const size_t first = DecodeUtf8(text, 0).length;
  return absl::StrCat(UpperText(text.substr(0, first)), Lowercase(text.substr(first)));
}

std::string TitleText(absl::string_view text) {
  std::string out;
  bool inside = false;
  for (const absl::string_view character : Characters(text)) {
    out += inside ? Lowercase(character) : UpperText(character);
    inside = IsLetter(character);
  }
  return out;
}

std::vector<std::string> SplitText(absl::string_view text,
                                   const std::optional<std::string>& separator, int64_t limit) {
  if (!separator.has_value() || separator->empty()) return SplitAtSpace(text, limit);
  std::vector<std::string> parts;
  while (limit < 0 || static_cast<int64_t>(parts.size()) < limit) {
    const size_t at = text.find(*separator);
    if (at == absl::string_view::npos) break;
    parts.emplace_back(text.substr(0, at));
    text.remove_prefix(at + separator->size());
  }
  parts.emplace_back(text);
  return parts;
}

std::vector<size_t> SlicePositions(int64_t size, std::optional<int64_t> start,
                                   std::optional<int64_t> stop, int64_t step) {
  const int64_t low = step > 0 ? 0 : -1;
  const int64_t high = step > 0 ? size : size - 1;
  const auto bound = [&](std::optional<int64_t> position, int64_t fallback) {
    if (!position.has_value()) return fallback;
    const int64_t from_front = *position < 0 ? *position + size : *position;
    return std::clamp(from_front, low, high);
  };
  const int64_t first = bound(start, step > 0 ? low : high);
  const int64_t last = bound(stop, step > 0 ? high : low);
  // A longer step than this picks one item at most, and adding it could overflow.
  const int64_t stride = std::clamp(step, -size - 1, size + 1);
  std::vector<size_t> positions;
  for (int64_t i = first; stride > 0 ? i < last : i > last; i += stride) {
    positions.push_back(static_cast<size_t>(i));
  }
  return positions;
}

}  // namespace ccoe::tokenizer
