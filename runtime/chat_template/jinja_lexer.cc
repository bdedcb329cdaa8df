// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat_template/jinja_lexer.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/unicode.h"

namespace ccoe::chat_template {
namespace {

using tokenizer::AppendUtf8;
using tokenizer::DecodeUtf8;
using tokenizer::IsWhitespace;
using tokenizer::StripLeft;
using tokenizer::StripRight;
using Kind = JinjaToken::Kind;

constexpr size_t kMaxTokens = 1 << 20;

bool IsNameStart(char c) { return absl::ascii_isalpha(c) || c == '_'; }
bool IsNamePart(char c) { return absl::ascii_isalnum(c) || c == '_'; }

std::string UnifyNewlines(absl::string_view source) {
  std::string text = absl::StrReplaceAll(source, {{"\r\n", "\n"}, {"\r", "\n"}});
  if (absl::EndsWith(text, "\n")) text.pop_back();
  return text;
}

class Lexer {
 public:
  explicit Lexer(absl::string_view source) : source_(UnifyNewlines(source)), rest_(source_) {}

  absl::StatusOr<std::vector<JinjaToken>> Run() {
    while (!rest_.empty()) {
      const size_t tag = NextTag();
      if (tag == absl::string_view::npos) {
        AddText(rest_);
        Skip(rest_.size());
        break;
      }
      CCOE_RETURN_IF_ERROR(LexTag(tag));
      if (tokens_.size() > kMaxTokens) return Error("the template has too many tokens");
    }
    Add(Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  // Where the next {{, {% or {# is.
  size_t NextTag() const {
    size_t at = rest_.find('{');
    while (at != absl::string_view::npos && at + 1 < rest_.size()) {
      const char next = rest_[at + 1];
      if (next == '{' || next == '%' || next == '#') return at;
      at = rest_.find('{', at + 1);
    }
    return absl::string_view::npos;
  }

  absl::Status LexTag(size_t at) {
    const char kind = rest_[at + 1];
    const char sign = at + 2 < rest_.size() ? rest_[at + 2] : '\0';
    AddText(TextBefore(rest_.substr(0, at), kind, sign));
    Skip(at + 2 + (sign == '-' || sign == '+' ? 1 : 0));
    if (kind == '#') return LexComment();
    const bool block = kind == '%';
    Add(block ? Kind::kBlockBegin : Kind::kOutputBegin, "");
    return LexInside(block);
  }

  absl::string_view TextBefore(absl::string_view text, char kind, char sign) const {
    if (sign == '-') return StripRight(text, IsWhitespace);
    if (sign == '+' || kind == '{') return text;
    const size_t newline = text.rfind('\n');
    const size_t line = newline == absl::string_view::npos ? 0 : newline + 1;
    const bool starts_line = line > 0 || at_line_start_;
    if (starts_line && StripLeft(text.substr(line), IsWhitespace).empty()) {
      return text.substr(0, line);
    }
    return text;
  }

  absl::Status LexComment() {
    const size_t end = rest_.find("#}");
    if (end == absl::string_view::npos) return Error("a comment has no end");
    const char sign = end > 0 ? rest_[end - 1] : '\0';
    Skip(end + 2);
    AfterTag(sign, /*trim_newline=*/true);
    return absl::OkStatus();
  }

  // Eats the white space that a tag takes along.
  void AfterTag(char sign, bool trim_newline) {
    const size_t before = rest_.size();
    const absl::string_view start = rest_;
    if (sign == '-') {
      Skip(rest_.size() - StripLeft(rest_, IsWhitespace).size());
    } else if (sign != '+' && trim_newline && absl::StartsWith(rest_, "\n")) {
      Skip(1);
    }
    const size_t eaten = before - rest_.size();
    at_line_start_ = eaten > 0 && start[eaten - 1] == '\n';
  }

  // Tokens up to the end of a tag.
  absl::Status LexInside(bool block) {
    const absl::string_view close = block ? "%}" : "}}";
    while (true) {
      Skip(rest_.size() - StripLeft(rest_, IsWhitespace).size());
      if (rest_.empty()) return Error(absl::StrCat("a tag has no end, expected ", close));
      if (open_.empty()) {
        const char sign = rest_[0] == '-' || (block && rest_[0] == '+') ? rest_[0] : '\0';
        const size_t skip = sign == '\0' ? 0 : 1;
        if (absl::StartsWith(rest_.substr(skip), close)) {
          Add(block ? Kind::kBlockEnd : Kind::kOutputEnd, "");
          Skip(skip + 2);
          AfterTag(sign, block);
          return absl::OkStatus();
        }
      }
      CCOE_RETURN_IF_ERROR(LexToken());
    }
  }

  absl::Status LexToken() {
    const char c = rest_[0];
    if (IsNameStart(c)) {
      const size_t end = std::find_if_not(rest_.begin(), rest_.end(), IsNamePart) - rest_.begin();
      Add(Kind::kName, std::string(rest_.substr(0, end)));
      Skip(end);
      return absl::OkStatus();
    }
    if (absl::ascii_isdigit(c)) return LexNumber();
    if (c == '\'' || c == '"') return LexString(c);
    return LexOperator();
  }

  absl::Status LexNumber() {
    size_t end = Digits(0);
    bool is_float = false;
    const bool after_dot =
        !tokens_.empty() && tokens_.back().kind == Kind::kOperator && tokens_.back().text == ".";
    if (!after_dot && end + 1 < rest_.size() && rest_[end] == '.' &&
        absl::ascii_isdigit(rest_[end + 1])) {
      is_float = true;
      end = Digits(end + 1);
    }
    Add(is_float ? Kind::kFloat : Kind::kInteger, std::string(rest_.substr(0, end)));
    Skip(end);
    if (!rest_.empty() && IsNamePart(rest_[0])) return Error("a number runs into a name");
    return absl::OkStatus();
  }

  size_t Digits(size_t from) const {
    while (from < rest_.size() && absl::ascii_isdigit(rest_[from])) ++from;
    return from;
  }

  absl::Status LexString(char quote) {
    std::string value;
    size_t at = 1;
    while (at < rest_.size() && rest_[at] != quote) {
      if (rest_[at] != '\\') {
        value.push_back(rest_[at++]);
        continue;
      }
      CCOE_ASSIGN_OR_RETURN(const size_t length, Unescape(rest_.substr(at), value));
      at += length;
    }
    if (at >= rest_.size()) return Error("a string has no end");
    Add(Kind::kString, std::move(value));
    Skip(at + 1);
    return absl::OkStatus();
  }

  // Appends what the escape at the front of `text` means and returns its length. One that means
  // nothing stays.
  absl::StatusOr<size_t> Unescape(absl::string_view text, std::string& value) {
    if (text.size() < 2) return Error("a string has no end");
    static constexpr absl::string_view kLetters = "ntrbfav0\\'\"";
    static constexpr char kMeanings[] = {'\n', '\t', '\r', '\b', '\f', '\a',
                                         '\v', '\0', '\\', '\'', '"'};
    const char letter = text[1];
    if (const size_t found = kLetters.find(letter); found != absl::string_view::npos) {
      value.push_back(kMeanings[found]);
      return 2;
    }
    if (letter == '\n') return 2;
    const size_t digits = letter == 'x' ? 2 : letter == 'u' ? 4 : letter == 'U' ? 8 : 0;
    if (digits == 0) {
      value.push_back('\\');
      return 1;
    }
    uint32_t code_point = 0;
    const absl::string_view hex = text.substr(2, digits);
    if (hex.size() != digits || !std::all_of(hex.begin(), hex.end(), absl::ascii_isxdigit) ||
        !absl::SimpleHexAtoi(hex, &code_point) || code_point > 0x10FFFF ||
        (code_point >= 0xD800 && code_point <= 0xDFFF)) {
      return Error(absl::StrCat("escape '", text.substr(0, 2 + digits), "' is not a character"));
    }
    AppendUtf8(code_point, value);
    return 2 + digits;
  }

  absl::Status LexOperator() {
    static constexpr absl::string_view kDouble[] = {"==", "!=", "<=", ">=", "**", "//"};
    for (const absl::string_view op : kDouble) {
      if (absl::StartsWith(rest_, op)) {
        Add(Kind::kOperator, std::string(op));
        Skip(2);
        return absl::OkStatus();
      }
    }
    static constexpr absl::string_view kSingle = "+-*/%~|.,:()[]{}=<>";
    const char c = rest_[0];
    if (kSingle.find(c) == absl::string_view::npos) {
      const absl::string_view found = rest_.substr(0, DecodeUtf8(rest_, 0).length);
      return Error(absl::StrCat("expected an expression, found '", found, "'"));
    }
    if (c == '(' || c == '[' || c == '{') open_.push_back(c);
    if (c == ')' || c == ']' || c == '}') {
      const char opener = c == ')' ? '(' : c == ']' ? '[' : '{';
      if (open_.empty() || open_.back() != opener) {
        return Error(absl::StrCat("'", std::string(1, c), "' closes nothing"));
      }
      open_.pop_back();
    }
    Add(Kind::kOperator, std::string(1, c));
    Skip(1);
    return absl::OkStatus();
  }

  void AddText(absl::string_view text) {
    if (!text.empty()) Add(Kind::kText, std::string(text));
  }

  void Add(Kind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }

  void Skip(size_t count) {
    line_ += static_cast<int>(std::count(rest_.begin(), rest_.begin() + count, '\n'));
    rest_.remove_prefix(count);
  }

  absl::Status Error(absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat("line ", line_, ": ", what));
  }

  const std::string source_;
  absl::string_view rest_;
  int line_ = 1;
  bool at_line_start_ = true;
  std::string open_;  // brackets that wait for their end
  std::vector<JinjaToken> tokens_;
};

}  // namespace

absl::StatusOr<std::vector<JinjaToken>> LexJinja(absl::string_view source) {
  return Lexer(source).Run();
}

}  // namespace ccoe::chat_template
