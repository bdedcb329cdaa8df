// SPDX-License-Identifier: Apache-2.0
// Cuts a Jinja template into tokens, with white space treated as Hugging Face's chat templates want
// it: the newline after a block tag goes (trim_blocks), as do blanks before one at the start of its
// line (lstrip_blocks), and one newline at the end of the template.
#ifndef CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_LEXER_H_
#define CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_LEXER_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace ccoe::chat_template {

struct JinjaToken {
  enum class Kind {
    kText,         // outside of tags, as it is to be printed
    kOutputBegin,  // {{
    kOutputEnd,    // }}
    kBlockBegin,   // {%
    kBlockEnd,     // %}
    kName,
    kString,  // text holds what it means, escapes resolved
    kInteger,
    kFloat,
    kOperator,
    kEnd,  // of the template
  };
  Kind kind = Kind::kEnd;
  std::string text;
  int line = 1;
};

// INVALID_ARGUMENT names the line. The last token is kEnd. `source` is valid UTF-8.
absl::StatusOr<std::vector<JinjaToken>> LexJinja(absl::string_view source);

// The tokens as the parsers read them.
class JinjaTokenStream {
 public:
  // The last token must be kEnd.
  explicit JinjaTokenStream(std::vector<JinjaToken> tokens) : tokens_(std::move(tokens)) {}

  const JinjaToken& Peek() const { return tokens_[at_]; }
  // The token after Peek().
  const JinjaToken& PeekNext() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  int line() const { return Peek().line; }
  // The end of the template stays.
  JinjaToken Take() {
    JinjaToken token = tokens_[at_];
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }

  bool Is(JinjaToken::Kind kind) const { return Peek().kind == kind; }
  bool IsOperator(absl::string_view op) const {
    return Is(JinjaToken::Kind::kOperator) && Peek().text == op;
  }
  bool IsName(absl::string_view name) const {
    return Is(JinjaToken::Kind::kName) && Peek().text == name;
  }
  bool SkipOperator(absl::string_view op) { return Skip(IsOperator(op)); }
  bool SkipName(absl::string_view name) { return Skip(IsName(name)); }

  absl::Status ExpectOperator(absl::string_view op) {
    return SkipOperator(op) ? absl::OkStatus() : Unexpected(absl::StrCat("'", op, "'"));
  }
  absl::Status Expect(JinjaToken::Kind kind, absl::string_view what) {
    return Skip(Is(kind)) ? absl::OkStatus() : Unexpected(what);
  }

  // "line N: expected `expected`, found <the present token>".
  absl::Status Unexpected(absl::string_view expected) const {
    return absl::InvalidArgumentError(
        absl::StrCat("line ", line(), ": expected ", expected, ", found ", Describe(Peek())));
  }

 private:
  bool Skip(bool skip) {
    if (skip) Take();
    return skip;
  }

  static std::string Describe(const JinjaToken& token) {
    switch (token.kind) {
      case JinjaToken::Kind::kOutputBegin:
        return "{{";
      case JinjaToken::Kind::kOutputEnd:
        return "}}";
      case JinjaToken::Kind::kBlockBegin:
        return "{%";
      case JinjaToken::Kind::kBlockEnd:
        return "%}";
      case JinjaToken::Kind::kEnd:
        return "the end of the template";
      default:
        return absl::StrCat("'", token.text.substr(0, 40), "'");
    }
  }

  std::vector<JinjaToken> tokens_;
  size_t at_ = 0;
};

}  // namespace ccoe::chat_template

#endif  // CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_LEXER_H_
