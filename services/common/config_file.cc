// SPDX-License-Identifier: Apache-2.0
#include "services/common/config_file.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/base/status_macros.h"

namespace ccoe::services {
namespace {

constexpr size_t kLongestQuoted = 60;  // of what an error repeats

bool IsNameChar(char c) { return absl::ascii_isalnum(c) || c == '-' || c == '_'; }

// What stands in a file unquoted: numbers and truth values.
bool IsBareValue(absl::string_view word) {
  double number = 0;
  return word == "true" || word == "false" || absl::SimpleAtod(word, &number);
}

std::string Utf8(uint32_t code) {
  std::string bytes;
  const auto add = [&bytes](uint32_t byte) { bytes += static_cast<char>(byte); };
  if (code < 0x80) {
    add(code);
  } else if (code < 0x800) {
    add(0xC0 | code >> 6);
    add(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    add(0xE0 | code >> 12);
    add(0x80 | (code >> 6 & 0x3F));
    add(0x80 | (code & 0x3F));
  } else {
    add(0xF0 | code >> 18);
    add(0x80 | (code >> 12 & 0x3F));
    add(0x80 | (code >> 6 & 0x3F));
    add(0x80 | (code & 0x3F));
  }
  return bytes;
}

class Parser {
 public:
  Parser(absl::string_view text, const std::string& file) : text_(text), file_(file) {}

  absl::StatusOr<std::vector<ConfigSection>> Parse() {
    std::vector<ConfigSection> sections;
    for (SkipBlank(); !AtEnd(); SkipBlank()) {
      if (Peek() == '[') {
        CCOE_ASSIGN_OR_RETURN(ConfigSection section, Header());
        sections.push_back(std::move(section));
        continue;
      }
      const int line = line_;
      const std::string key = Name();
      if (key.empty()) return Expected(line, "a key or a [section]");
      if (sections.empty()) {
        return Error(line, absl::StrCat("expected a section such as [up] before the first key, "
                                        "found ",
                                        key));
      }
      CCOE_ASSIGN_OR_RETURN(ConfigEntry entry, Entry(key));
      sections.back().entries.push_back(std::move(entry));
    }
    return sections;
  }

 private:
  bool AtEnd() const { return at_ == text_.size(); }
  char Peek() const { return AtEnd() ? '\0' : text_[at_]; }
  char Next() {
    if (text_[at_] == '\n') ++line_;
    return text_[at_++];
  }
  bool Take(char c) {
    if (AtEnd() || Peek() != c) return false;
    Next();
    return true;
  }
  void SkipSpaces() {
    while (Peek() == ' ' || Peek() == '\t') Next();
    if (Peek() == '#') {
      while (!AtEnd() && Peek() != '\n') Next();
    }
  }
  // Spaces, comments and ends of lines.
  void SkipBlank() {
    for (SkipSpaces(); Peek() == '\n' || Peek() == '\r'; SkipSpaces()) Next();
  }
  std::string Name() {
    const size_t begin = at_;
    while (IsNameChar(Peek())) Next();
    return std::string(text_.substr(begin, at_ - begin));
  }

  absl::Status Error(int line, absl::string_view problem) const {
    return absl::InvalidArgumentError(absl::StrCat(file_, ":", line, ": ", problem));
  }
  // With the rest of the line as what was found.
  absl::Status Expected(int line, absl::string_view what) const {
    absl::string_view rest = text_.substr(at_);
    rest = absl::StripAsciiWhitespace(rest.substr(0, rest.find('\n'))).substr(0, kLongestQuoted);
    return Error(line, absl::StrCat("expected ", what, ", found ",
                                    rest.empty() ? "the end of the line" : rest));
  }
  absl::Status EndOfLine() {
    SkipSpaces();
    Take('\r');
    if (AtEnd() || Take('\n')) return absl::OkStatus();
    return Expected(line_, "the end of the line");
  }

  absl::StatusOr<ConfigSection> Header() {
    ConfigSection section;
    section.line = line_;
    Next();
    SkipSpaces();
    section.name = Name();
    if (section.name.empty()) return Expected(section.line, "a section's name");
    SkipSpaces();
    if (!Take(']')) return Expected(section.line, absl::StrCat("] after [", section.name));
    CCOE_RETURN_IF_ERROR(EndOfLine());
    const auto [first, is_new] = section_lines_.emplace(section.name, section.line);
    if (!is_new) {
      return Error(section.line, absl::StrCat("section [", section.name, "] stands in line ",
                                              first->second, " already"));
    }
    key_lines_.clear();
    return section;
  }

  absl::StatusOr<ConfigEntry> Entry(const std::string& key) {
    ConfigEntry entry;
    entry.key = key;
    entry.line = line_;
    SkipSpaces();
    if (!Take('=')) return Expected(entry.line, absl::StrCat("= after ", key));
    SkipSpaces();
    if (Take('[')) {
      entry.is_list = true;
      CCOE_ASSIGN_OR_RETURN(entry.values, List());
    } else {
      CCOE_ASSIGN_OR_RETURN(std::string value, Value());
      entry.values = {std::move(value)};
    }
    CCOE_RETURN_IF_ERROR(EndOfLine());
    const auto [first, is_new] = key_lines_.emplace(key, entry.line);
    if (is_new) return entry;
    return Error(entry.line, absl::StrCat(key, " stands in line ", first->second, " already"));
  }

  // After the bracket; may go over several lines.
  absl::StatusOr<std::vector<std::string>> List() {
    std::vector<std::string> values;
    for (SkipBlank(); !Take(']'); SkipBlank()) {
      CCOE_ASSIGN_OR_RETURN(std::string value, Value());
      values.push_back(std::move(value));
      SkipBlank();
      if (!Take(',') && Peek() != ']') return Expected(line_, ", or ] in a list");
    }
    return values;
  }

  absl::StatusOr<std::string> Value() {
    if (Take('"')) return Quoted();
    if (Take('\'')) return Literal();
    const size_t begin = at_;
    while (!AtEnd() && absl::string_view(" \t\r\n#,]").find(Peek()) == absl::string_view::npos) {
      Next();
    }
    const absl::string_view word = text_.substr(begin, at_ - begin);
    if (IsBareValue(word)) return std::string(word);
    at_ = begin;
    return Expected(line_, "a number, true, false, a list or text in quotes");
  }

  absl::StatusOr<std::string> Literal() {
    std::string value;
    while (!AtEnd() && Peek() != '\n' && Peek() != '\'') value += Next();
    if (Take('\'')) return value;
    return Expected(line_, "a closing '");
  }

  absl::StatusOr<std::string> Quoted() {
    std::string value;
    while (!AtEnd() && Peek() != '\n' && Peek() != '"') {
      const char c = Next();
      if (c != '\\') {
        value += c;
        continue;
      }
      CCOE_ASSIGN_OR_RETURN(const std::string escaped, Escape());
      value += escaped;
    }
    if (Take('"')) return value;
    return Expected(line_, "a closing \"");
  }

  // After the backslash.
  absl::StatusOr<std::string> Escape() {
    constexpr absl::string_view kNames = "btnfr\"\\", kMeant = "\b\t\n\f\r\"\\";
    const char c = Peek();
    if (const size_t i = kNames.find(c); c != '\0' && i != absl::string_view::npos) {
      Next();
      return std::string(1, kMeant[i]);
    }
    const size_t digits = c == 'u' ? 4 : c == 'U' ? 8 : 0;
    const absl::string_view hex = digits == 0 ? "" : text_.substr(at_ + 1, digits);
    uint32_t code = 0;
    if (hex.size() != digits || digits == 0 ||
        !std::all_of(hex.begin(), hex.end(), absl::ascii_isxdigit) ||
        !absl::SimpleHexAtoi(hex, &code) || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
      return Expected(line_, R"(one of \b \t \n \f \r \" \\ \uXXXX \UXXXXXXXX in quotes)");
    }
    at_ += 1 + digits;
    return Utf8(code);
  }

  const absl::string_view text_;
  const std::string& file_;
  size_t at_ = 0;
  int line_ = 1;
  std::map<std::string, int> section_lines_, key_lines_;  // of the section so far
};

}  // namespace

absl::StatusOr<std::vector<ConfigSection>> ParseConfig(absl::string_view text,
                                                       const std::string& file_name) {
  return Parser(text, file_name).Parse();
}

std::string QuotedForConfig(absl::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) {
      absl::StrAppendFormat(&quoted, "\\u%04X", static_cast<unsigned char>(c));
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

}  // namespace ccoe::services
