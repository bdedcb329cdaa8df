// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat_template/jinja_expression_parser.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/chat_template/jinja_filters.h"

namespace ccoe::chat_template {
namespace {

// Of brackets and prefixes in each other, which the parser's own stack follows.
constexpr int kMaxNesting = 48;
// Of the tree, which the evaluator's stack follows; a long sum is deep too.
constexpr int kMaxDepth = 200;
constexpr size_t kMaxArguments = 64;

// Built one by one, since an initializer list cannot move.
template <typename... T>
std::vector<JinjaExpressionPointer> Children(T... child) {
  std::vector<JinjaExpressionPointer> children;
  (children.push_back(std::move(child)), ...);
  return children;
}

int DepthOf(const JinjaExpressionPointer& child) { return child == nullptr ? 0 : child->depth; }

}  // namespace

JinjaExpressionParser::Result JinjaExpressionParser::Node(
    Kind kind, int line, std::vector<JinjaExpressionPointer> children) {
  auto node = std::make_unique<JinjaExpression>();
  node->kind = kind;
  node->line = line;
  for (const auto& child : children) node->depth = std::max(node->depth, DepthOf(child) + 1);
  node->children = std::move(children);
  if (node->depth > kMaxDepth) {
    return absl::InvalidArgumentError(
        absl::StrCat("line ", line, ": an expression is deeper than ", kMaxDepth));
  }
  return node;
}

JinjaExpressionParser::Result JinjaExpressionParser::Parse() {
  const int line = tokens_.line();
  ++nesting_;
  const auto leave = absl::MakeCleanup([this] { --nesting_; });
  if (nesting_ > kMaxNesting) {
    return absl::InvalidArgumentError(
        absl::StrCat("line ", line, ": brackets are nested deeper than ", kMaxNesting));
  }
  CCOE_ASSIGN_OR_RETURN(auto value, ParseOr());
  while (tokens_.SkipName("if")) {
    CCOE_ASSIGN_OR_RETURN(auto condition, ParseOr());
    JinjaExpressionPointer otherwise;
    if (tokens_.SkipName("else")) {
      CCOE_ASSIGN_OR_RETURN(otherwise, Parse());
    }
    CCOE_ASSIGN_OR_RETURN(
        value, Node(Kind::kConditional, line,
                    Children(std::move(value), std::move(condition), std::move(otherwise))));
  }
  return value;
}

JinjaExpressionParser::Result JinjaExpressionParser::ParseWithoutConditional() { return ParseOr(); }

JinjaExpressionParser::Result JinjaExpressionParser::ParseOr() {
  CCOE_ASSIGN_OR_RETURN(auto left, ParseAnd());
  while (tokens_.IsName("or")) {
    const int line = tokens_.Take().line;
    CCOE_ASSIGN_OR_RETURN(auto right, ParseAnd());
    CCOE_ASSIGN_OR_RETURN(left, Node(Kind::kOr, line, Children(std::move(left), std::move(right))));
  }
  return left;
}

JinjaExpressionParser::Result JinjaExpressionParser::ParseAnd() {
  CCOE_ASSIGN_OR_RETURN(auto left, ParseNot());
  while (tokens_.IsName("and")) {
    const int line = tokens_.Take().line;
    CCOE_ASSIGN_OR_RETURN(auto right, ParseNot());
    CCOE_ASSIGN_OR_RETURN(left,
                          Node(Kind::kAnd, line, Children(std::move(left), std::move(right))));
  }
  return left;
}

JinjaExpressionParser::Result JinjaExpressionParser::ParseNot() {
  std::vector<int> lines;
  while (tokens_.IsName("not")) lines.push_back(tokens_.Take().line);
  CCOE_ASSIGN_OR_RETURN(auto value, ParseCompare());
  for (; !lines.empty(); lines.pop_back()) {
    CCOE_ASSIGN_OR_RETURN(value, Node(Kind::kNot, lines.back(), Children(std::move(value))));
  }
  return value;
}

JinjaExpressionParser::Result JinjaExpressionParser::ParseCompare() {
  static constexpr const char* kOperators[] = {"==", "!=", "<", "<=", ">", ">="};
  const int line = tokens_.line();
  CCOE_ASSIGN_OR_RETURN(auto first, ParseSum());
  std::vector<std::string> operators;
  std::vector<JinjaExpressionPointer> children = Children(std::move(first));
  while (true) {
    const bool compares = std::any_of(std::begin(kOperators), std::end(kOperators),
                                      [this](const char* op) { return tokens_.IsOperator(op); });
    if (compares) {
      operators.push_back(tokens_.Take().text);
    } else if (tokens_.SkipName("in")) {
      operators.push_back("in");
    } else if (tokens_.IsName("not") && tokens_.PeekNext().text == "in") {
      tokens_.Take();
      tokens_.Take();
      operators.push_back("not in");
    } else {
      break;
    }
    CCOE_ASSIGN_OR_RETURN(auto next, ParseSum());
    children.push_back(std::move(next));
  }
  if (operators.empty()) return std::move(children[0]);
  CCOE_ASSIGN_OR_RETURN(auto node, Node(Kind::kCompare, line, std::move(children)));
  node->operators = std::move(operators);
  return node;
}

JinjaExpressionParser::Result JinjaExpressionParser::ParseBinary(
    const std::vector<const char*>& operators, Rule operand) {
  CCOE_ASSIGN_OR_RETURN(auto left, (this->*operand)());
  while (std::any_of(operators.begin(), operators.end(),
                     [this](const char* op) { return tokens_.IsOperator(op); })) {
    const JinjaToken token = tokens_.Take();
    CCOE_ASSIGN_OR_RETURN(auto right, (this->*operand)());
    CCOE_ASSIGN_OR_RETURN(
        left, Node(Kind::kBinary, token.line, Children(std::move(left), std::move(right))));
    left->operators = {token.text};
  }
  return left;
}

JinjaExpressionParser::Result JinjaExpressionParser::ParseSum() {
  return ParseBinary({"+", "-"}, &JinjaExpressionParser::ParseConcatenation);
}

JinjaExpressionParser::Result JinjaExpressionParser::ParseConcatenation() {
  return ParseBinary({"~"}, &JinjaExpressionParser::ParseProduct);
}

JinjaExpressionParser::Result JinjaExpressionParser::ParseProduct() {
  return ParseBinary({"*", "/", "//", "%"}, &JinjaExpressionParser::ParseUnary);
}

JinjaExpressionParser::Result JinjaExpressionParser::ParseUnary() {
  CCOE_ASSIGN_OR_RETURN(auto value, ParseUnaryWithoutFilter());
  return ParseFiltersAndTests(std::move(value));
}

JinjaExpressionParser::Result JinjaExpressionParser::ParseUnaryWithoutFilter() {
  std::vector<int> lines;
  while (tokens_.IsOperator("-") || tokens_.IsOperator("+")) {
    const JinjaToken token = tokens_.Take();
    if (token.text == "-") lines.push_back(token.line);
  }
  CCOE_ASSIGN_OR_RETURN(auto value, ParsePrimary());
  CCOE_ASSIGN_OR_RETURN(value, ParsePostfix(std::move(value)));
  for (; !lines.empty(); lines.pop_back()) {
    CCOE_ASSIGN_OR_RETURN(value, Node(Kind::kNegate, lines.back(), Children(std::move(value))));
  }
  return value;
}

JinjaExpressionParser::Result JinjaExpressionParser::ParsePrimary() {
  const int line = tokens_.line();
  CCOE_ASSIGN_OR_RETURN(auto node, Node(Kind::kLiteral, line, {}));
  if (tokens_.Is(JinjaToken::Kind::kName)) {
    const std::string name = tokens_.Take().text;
    if (name == "true" || name == "True") {
      node->literal = JinjaValue(true);
    } else if (name == "false" || name == "False") {
      node->literal = JinjaValue(false);
    } else if (name != "none" && name != "None") {
      node->kind = Kind::kName;
      node->name = name;
    }
    return node;
  }
  if (tokens_.Is(JinjaToken::Kind::kString)) {
    std::string text;
    while (tokens_.Is(JinjaToken::Kind::kString)) text += tokens_.Take().text;
    node->literal = JinjaValue(std::move(text));
    return node;
  }
  if (tokens_.Is(JinjaToken::Kind::kInteger) || tokens_.Is(JinjaToken::Kind::kFloat)) {
    return ParseNumber();
  }
  if (tokens_.SkipOperator("(")) {
    CCOE_ASSIGN_OR_RETURN(auto inner, Parse());
    CCOE_RETURN_IF_ERROR(tokens_.ExpectOperator(")"));
    return inner;
  }
  if (tokens_.SkipOperator("[")) return ParseList();
  if (tokens_.SkipOperator("{")) return ParseDict();
  return tokens_.Unexpected("an expression");
}

JinjaExpressionParser::Result JinjaExpressionParser::ParseNumber() {
  const JinjaToken token = tokens_.Take();
  CCOE_ASSIGN_OR_RETURN(auto node, Node(Kind::kLiteral, token.line, {}));
  int64_t integer = 0;
  double number = 0;
  if (token.kind == JinjaToken::Kind::kInteger && absl::SimpleAtoi(token.text, &integer)) {
    node->literal = JinjaValue(integer);
  } else if (token.kind == JinjaToken::Kind::kFloat && absl::SimpleAtod(token.text, &number)) {
    node->literal = JinjaValue(number);
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("line ", token.line, ": number ", token.text.substr(0, 40), " is too large"));
  }
  return node;
}

JinjaExpressionParser::Result JinjaExpressionParser::ParseList() {
  const int line = tokens_.line();
  std::vector<JinjaExpressionPointer> items;
  while (!tokens_.SkipOperator("]")) {
    CCOE_ASSIGN_OR_RETURN(auto item, Parse());
    items.push_back(std::move(item));
    if (!tokens_.IsOperator("]")) CCOE_RETURN_IF_ERROR(tokens_.ExpectOperator(","));
  }
  return Node(Kind::kList, line, std::move(items));
}

JinjaExpressionParser::Result JinjaExpressionParser::ParseDict() {
  const int line = tokens_.line();
  std::vector<JinjaExpressionPointer> entries;
  while (!tokens_.SkipOperator("}")) {
    CCOE_ASSIGN_OR_RETURN(auto key, Parse());
    CCOE_RETURN_IF_ERROR(tokens_.ExpectOperator(":"));
    CCOE_ASSIGN_OR_RETURN(auto value, Parse());
    entries.push_back(std::move(key));
    entries.push_back(std::move(value));
    if (!tokens_.IsOperator("}")) CCOE_RETURN_IF_ERROR(tokens_.ExpectOperator(","));
  }
  return Node(Kind::kDict, line, std::move(entries));
}

JinjaExpressionParser::Result JinjaExpressionParser::ParsePostfix(JinjaExpressionPointer object) {
  while (true) {
    const int line = tokens_.line();
    if (tokens_.SkipOperator(".")) {
      const JinjaToken name = tokens_.Take();
      if (name.kind != JinjaToken::Kind::kName) {
        return absl::InvalidArgumentError(
            absl::StrCat("line ", line, ": expected a name after '.', found '", name.text, "'"));
      }
      CCOE_ASSIGN_OR_RETURN(object, Node(Kind::kAttribute, line, Children(std::move(object))));
      object->name = name.text;
    } else if (tokens_.SkipOperator("[")) {
      CCOE_ASSIGN_OR_RETURN(object, ParseSubscript(std::move(object)));
    } else if (tokens_.IsOperator("(")) {
      CCOE_ASSIGN_OR_RETURN(object, Node(Kind::kCall, line, Children(std::move(object))));
      CCOE_RETURN_IF_ERROR(ParseArguments(*object));
    } else {
      return object;
    }
  }
}

JinjaExpressionParser::Result JinjaExpressionParser::ParseSubscript(JinjaExpressionPointer object) {
  const int line = tokens_.line();
  JinjaExpressionPointer parts[3];
  int colons = 0;
  while (!tokens_.IsOperator("]")) {
    if (tokens_.SkipOperator(":")) {
      if (++colons > 2) return tokens_.Unexpected("at most two ':' in a slice");
      continue;
    }
    if (parts[colons] != nullptr) return tokens_.Unexpected("']'");
    CCOE_ASSIGN_OR_RETURN(parts[colons], Parse());
  }
  if (colons == 0 && parts[0] == nullptr) return tokens_.Unexpected("an index");
  CCOE_RETURN_IF_ERROR(tokens_.ExpectOperator("]"));
  if (colons == 0) return Node(Kind::kItem, line, Children(std::move(object), std::move(parts[0])));
  return Node(
      Kind::kSlice, line,
      Children(std::move(object), std::move(parts[0]), std::move(parts[1]), std::move(parts[2])));
}

// Positional arguments and keywords in brackets.
absl::Status JinjaExpressionParser::ParseArguments(JinjaExpression& call) {
  CCOE_RETURN_IF_ERROR(tokens_.ExpectOperator("("));
  while (!tokens_.SkipOperator(")")) {
    const bool keyword = tokens_.Is(JinjaToken::Kind::kName) &&
                         tokens_.PeekNext().kind == JinjaToken::Kind::kOperator &&
                         tokens_.PeekNext().text == "=";
    std::string name;
    if (keyword) {
      name = tokens_.Take().text;
      tokens_.Take();
    }
    CCOE_ASSIGN_OR_RETURN(auto value, Parse());
    call.depth = std::max(call.depth, value->depth + 1);
    if (keyword) {
      call.keywords.emplace_back(std::move(name), std::move(value));
    } else {
      call.children.push_back(std::move(value));
    }
    if (call.children.size() + call.keywords.size() > kMaxArguments || call.depth > kMaxDepth) {
      return tokens_.Unexpected(absl::StrCat("at most ", kMaxArguments, " arguments"));
    }
    if (!tokens_.IsOperator(")")) CCOE_RETURN_IF_ERROR(tokens_.ExpectOperator(","));
  }
  return absl::OkStatus();
}

JinjaExpressionParser::Result JinjaExpressionParser::ParseFiltersAndTests(
    JinjaExpressionPointer input) {
  while (true) {
    if (tokens_.SkipOperator("|")) {
      CCOE_ASSIGN_OR_RETURN(input, ParseFilter(std::move(input)));
    } else if (tokens_.SkipName("is")) {
      CCOE_ASSIGN_OR_RETURN(input, ParseTest(std::move(input)));
    } else {
      return input;
    }
  }
}

JinjaExpressionParser::Result JinjaExpressionParser::ParseFilter(JinjaExpressionPointer input) {
  const JinjaToken name = tokens_.Take();
  if (name.kind != JinjaToken::Kind::kName || !IsJinjaFilter(name.text)) {
    return absl::UnimplementedError(absl::StrCat("line ", name.line, ": filter '", name.text, "'"));
  }
  CCOE_ASSIGN_OR_RETURN(auto node, Node(Kind::kFilter, name.line, Children(std::move(input))));
  node->name = name.text;
  if (tokens_.IsOperator("(")) CCOE_RETURN_IF_ERROR(ParseArguments(*node));
  return node;
}

bool JinjaExpressionParser::StartsTestArgument() const {
  static constexpr const char* kEnds[] = {"else", "or", "and", "if", "in", "is", "not"};
  switch (tokens_.Peek().kind) {
    case JinjaToken::Kind::kString:
    case JinjaToken::Kind::kInteger:
    case JinjaToken::Kind::kFloat:
      return true;
    case JinjaToken::Kind::kName:
      return std::none_of(std::begin(kEnds), std::end(kEnds),
                          [this](const char* name) { return tokens_.IsName(name); });
    case JinjaToken::Kind::kOperator:
      return tokens_.IsOperator("[") || tokens_.IsOperator("{");
    default:
      return false;
  }
}

JinjaExpressionParser::Result JinjaExpressionParser::ParseTest(JinjaExpressionPointer input) {
  const bool negated = tokens_.SkipName("not");
  const JinjaToken name = tokens_.Take();
  if (name.kind != JinjaToken::Kind::kName || !IsJinjaTest(name.text)) {
    return absl::UnimplementedError(absl::StrCat("line ", name.line, ": test '", name.text, "'"));
  }
  CCOE_ASSIGN_OR_RETURN(auto node, Node(Kind::kTest, name.line, Children(std::move(input))));
  node->name = name.text;
  node->negated = negated;
  if (tokens_.IsOperator("(")) {
    CCOE_RETURN_IF_ERROR(ParseArguments(*node));
  } else if (StartsTestArgument()) {
    CCOE_ASSIGN_OR_RETURN(auto argument, ParsePrimary());
    CCOE_ASSIGN_OR_RETURN(argument, ParsePostfix(std::move(argument)));
    node->depth = std::max(node->depth, argument->depth + 1);
    node->children.push_back(std::move(argument));
  }
  return node;
}

}  // namespace ccoe::chat_template
