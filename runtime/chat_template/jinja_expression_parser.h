// SPDX-License-Identifier: Apache-2.0
// The expressions of a template, with Jinja2's precedence: a filter binds tighter than any
// operator.
#ifndef CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_EXPRESSION_PARSER_H_
#define CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_EXPRESSION_PARSER_H_

#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/chat_template/jinja_lexer.h"
#include "runtime/chat_template/jinja_parser.h"

namespace ccoe::chat_template {

class JinjaExpressionParser {
 public:
  // `tokens` must outlive the parser.
  explicit JinjaExpressionParser(JinjaTokenStream& tokens) : tokens_(tokens) {}

  using Result = absl::StatusOr<JinjaExpressionPointer>;

  // A whole expression, `a if b else c` included.
  Result Parse();
  // The same without the conditional form, for `for x in EXPRESSION if condition`.
  Result ParseWithoutConditional();

 private:
  using Kind = JinjaExpression::Kind;
  using Rule = Result (JinjaExpressionParser::*)();

  Result Node(Kind kind, int line, std::vector<JinjaExpressionPointer> children);
  // left OP right OP ..., grouped from the left.
  Result ParseBinary(const std::vector<const char*>& operators, Rule operand);
  Result ParseOr();
  Result ParseAnd();
  Result ParseNot();
  Result ParseCompare();
  Result ParseSum();
  Result ParseConcatenation();
  Result ParseProduct();
  Result ParseUnary();
  Result ParseUnaryWithoutFilter();
  Result ParsePrimary();
  Result ParseNumber();
  Result ParseList();
  Result ParseDict();
  Result ParsePostfix(JinjaExpressionPointer object);
  Result ParseSubscript(JinjaExpressionPointer object);
  Result ParseFiltersAndTests(JinjaExpressionPointer input);
  Result ParseFilter(JinjaExpressionPointer input);
  Result ParseTest(JinjaExpressionPointer input);
  absl::Status ParseArguments(JinjaExpression& call);
  bool StartsTestArgument() const;

  JinjaTokenStream& tokens_;
  int nesting_ = 0;
};

}  // namespace ccoe::chat_template

#endif  // CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_EXPRESSION_PARSER_H_
