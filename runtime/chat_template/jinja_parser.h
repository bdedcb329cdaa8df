// SPDX-License-Identifier: Apache-2.0
// Tokens of a template to its syntax tree, which is plain data: made by the parser, read by the
// evaluator.
#ifndef CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_PARSER_H_
#define CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_PARSER_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/chat_template/jinja_lexer.h"
#include "runtime/chat_template/jinja_value.h"

namespace ccoe::chat_template {

struct JinjaExpression;
using JinjaExpressionPointer = std::unique_ptr<JinjaExpression>;

struct JinjaExpression {
  enum class Kind {
    kLiteral,      // literal
    kName,         // name
    kList,         // children: the items
    kDict,         // children: key, value, key, value, ...
    kNot,          // children: the operand
    kNegate,       // children: the operand
    kBinary,       // operators[0]; children: left, right
    kCompare,      // operators between children, as in a < b <= c
    kAnd,          // children: left, right
    kOr,           // children: left, right
    kConditional,  // children: then, condition, else (perhaps null)
    kAttribute,    // name; children: the object
    kItem,         // children: the object, the index
    kSlice,        // children: the object, start, stop, step (each perhaps null)
    kCall,         // children: the callee, then arguments; keywords
    kFilter,       // name; children: the input, then arguments; keywords
    kTest,         // name, negated; children: the input, then arguments
  };
  Kind kind = Kind::kLiteral;
  int line = 0;
  int depth = 1;  // of the tree below
  std::string name;
  JinjaValue literal;
  bool negated = false;
  std::vector<std::string> operators;
  std::vector<JinjaExpressionPointer> children;
  std::vector<std::pair<std::string, JinjaExpressionPointer>> keywords;
};

struct JinjaStatement {
  enum class Kind {
    kText,    // text
    kOutput,  // value
    kIf,      // branches, otherwise
    kFor,     // targets, value (what is walked through), condition (perhaps null), body, otherwise
    kSet,     // targets (one), attribute (perhaps empty), value
    kSetBlock,  // targets (one), body
    kBreak,
    kContinue,
  };
  using Body = std::vector<JinjaStatement>;
  struct Branch {
    JinjaExpressionPointer condition;
    Body body;
  };

  Kind kind = Kind::kText;
  int line = 0;
  std::string text;
  std::vector<std::string> targets;
  std::string attribute;
  JinjaExpressionPointer value;
  JinjaExpressionPointer condition;
  std::vector<Branch> branches;
  Body body;
  Body otherwise;
};

// INVALID_ARGUMENT names the line, what was expected and what was found. UNIMPLEMENTED names a
// statement, filter or test of Jinja that is not known here. Trees are at most 200 deep.
absl::StatusOr<JinjaStatement::Body> ParseJinja(std::vector<JinjaToken> tokens);

}  // namespace ccoe::chat_template

#endif  // CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_PARSER_H_
