// The syntax tree of a template. Plain data: made by the parser, read by the evaluator.
#ifndef CCOE_RUNTIME_TOKENIZER_JINJA_AST_H_
#define CCOE_RUNTIME_TOKENIZER_JINJA_AST_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/tokenizer/jinja_value.h"

namespace ccoe::tokenizer {

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

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_JINJA_AST_H_
