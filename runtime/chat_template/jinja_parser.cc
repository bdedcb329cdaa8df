// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat_template/jinja_parser.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/chat_template/jinja_expression_parser.h"

namespace ccoe::chat_template {
namespace {

using Kind = JinjaStatement::Kind;
using Body = JinjaStatement::Body;

constexpr int kMaxNesting = 64;

class StatementParser {
 public:
  explicit StatementParser(std::vector<JinjaToken> tokens)
      : tokens_(std::move(tokens)), expressions_(tokens_) {}

  absl::StatusOr<Body> Run() {
    Body body;
    CCOE_RETURN_IF_ERROR(ParseBody({}, body).status());
    return body;
  }

 private:
  // Statements up to a block that starts with one of `ends`, whose name is returned and taken; the
  // rest of that tag is left. Without ends, up to the end of the template.
  absl::StatusOr<std::string> ParseBody(const std::vector<std::string>& ends, Body& body) {
    if (++nesting_ > kMaxNesting) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", tokens_.line(), ": blocks are nested deeper than ", kMaxNesting));
    }
    while (!tokens_.Is(JinjaToken::Kind::kEnd)) {
      const JinjaToken token = tokens_.Take();
      if (token.kind == JinjaToken::Kind::kText) {
        body.push_back(Statement(Kind::kText, token.line));
        body.back().text = token.text;
      } else if (token.kind == JinjaToken::Kind::kOutputBegin) {
        body.push_back(Statement(Kind::kOutput, token.line));
        CCOE_ASSIGN_OR_RETURN(body.back().value, expressions_.Parse());
        CCOE_RETURN_IF_ERROR(tokens_.Expect(JinjaToken::Kind::kOutputEnd, "}}"));
      } else {
        const JinjaToken name = tokens_.Take();
        if (name.kind == JinjaToken::Kind::kName &&
            std::find(ends.begin(), ends.end(), name.text) != ends.end()) {
          --nesting_;
          return name.text;
        }
        CCOE_RETURN_IF_ERROR(ParseStatement(name, body));
      }
    }
    if (!ends.empty()) return tokens_.Unexpected(absl::StrCat("{% ", ends.back(), " %}"));
    return std::string();
  }

  static JinjaStatement Statement(Kind kind, int line) {
    JinjaStatement statement;
    statement.kind = kind;
    statement.line = line;
    return statement;
  }

  absl::Status EndTag() { return tokens_.Expect(JinjaToken::Kind::kBlockEnd, "%}"); }

  absl::Status ParseStatement(const JinjaToken& name, Body& body) {
    if (name.text == "if") return ParseIf(name.line, body);
    if (name.text == "for") return ParseFor(name.line, body);
    if (name.text == "set") return ParseSet(name.line, body);
    if (name.text == "break" || name.text == "continue") {
      if (loops_ == 0) {
        return absl::InvalidArgumentError(
            absl::StrCat("line ", name.line, ": '", name.text, "' outside of a loop"));
      }
      body.push_back(Statement(name.text == "break" ? Kind::kBreak : Kind::kContinue, name.line));
      return EndTag();
    }
    if (name.text == "generation") {
      // Marks the assistant's part for training; what is inside is printed as it is.
      CCOE_RETURN_IF_ERROR(EndTag());
      CCOE_RETURN_IF_ERROR(ParseBody({"endgeneration"}, body).status());
      return EndTag();
    }
    return absl::UnimplementedError(
        absl::StrCat("line ", name.line, ": statement '", name.text, "'"));
  }

  absl::Status ParseIf(int line, Body& body) {
    JinjaStatement statement = Statement(Kind::kIf, line);
    std::string end = "elif";
    while (end == "elif") {
      JinjaStatement::Branch branch;
      CCOE_ASSIGN_OR_RETURN(branch.condition, expressions_.Parse());
      CCOE_RETURN_IF_ERROR(EndTag());
      CCOE_ASSIGN_OR_RETURN(end, ParseBody({"elif", "else", "endif"}, branch.body));
      statement.branches.push_back(std::move(branch));
    }
    if (end == "else") {
      CCOE_RETURN_IF_ERROR(EndTag());
      CCOE_RETURN_IF_ERROR(ParseBody({"endif"}, statement.otherwise).status());
    }
    body.push_back(std::move(statement));
    return EndTag();
  }

  absl::StatusOr<std::string> ParseTarget() {
    if (!tokens_.Is(JinjaToken::Kind::kName)) return tokens_.Unexpected("a name");
    return tokens_.Take().text;
  }

  absl::Status ParseFor(int line, Body& body) {
    JinjaStatement statement = Statement(Kind::kFor, line);
    const bool bracket = tokens_.SkipOperator("(");
    do {
      CCOE_ASSIGN_OR_RETURN(std::string target, ParseTarget());
      statement.targets.push_back(std::move(target));
    } while (tokens_.SkipOperator(","));
    if (bracket) CCOE_RETURN_IF_ERROR(tokens_.ExpectOperator(")"));
    if (!tokens_.SkipName("in")) return tokens_.Unexpected("'in'");
    CCOE_ASSIGN_OR_RETURN(statement.value, expressions_.ParseWithoutConditional());
    if (tokens_.SkipName("if")) {
      CCOE_ASSIGN_OR_RETURN(statement.condition, expressions_.Parse());
    }
    CCOE_RETURN_IF_ERROR(EndTag());
    ++loops_;
    CCOE_ASSIGN_OR_RETURN(const std::string end, ParseBody({"else", "endfor"}, statement.body));
    --loops_;
    if (end == "else") {
      CCOE_RETURN_IF_ERROR(EndTag());
      CCOE_RETURN_IF_ERROR(ParseBody({"endfor"}, statement.otherwise).status());
    }
    body.push_back(std::move(statement));
    return EndTag();
  }

  absl::Status ParseSet(int line, Body& body) {
    JinjaStatement statement = Statement(Kind::kSet, line);
    CCOE_ASSIGN_OR_RETURN(std::string target, ParseTarget());
    statement.targets.push_back(std::move(target));
    if (tokens_.SkipOperator(".")) {
      CCOE_ASSIGN_OR_RETURN(statement.attribute, ParseTarget());
    }
    if (tokens_.SkipOperator("=")) {
      CCOE_ASSIGN_OR_RETURN(statement.value, expressions_.Parse());
    } else if (statement.attribute.empty() && tokens_.Is(JinjaToken::Kind::kBlockEnd)) {
      statement.kind = Kind::kSetBlock;
      CCOE_RETURN_IF_ERROR(EndTag());
      CCOE_RETURN_IF_ERROR(ParseBody({"endset"}, statement.body).status());
    } else {
      return tokens_.Unexpected("'='");
    }
    body.push_back(std::move(statement));
    return EndTag();
  }

  JinjaTokenStream tokens_;
  JinjaExpressionParser expressions_;
  int nesting_ = 0;
  int loops_ = 0;
};

}  // namespace

absl::StatusOr<Body> ParseJinja(std::vector<JinjaToken> tokens) {
  return StatementParser(std::move(tokens)).Run();
}

}  // namespace ccoe::chat_template
