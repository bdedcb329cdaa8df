// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat_template/jinja_evaluator.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/chat_template/jinja_filters.h"
#include "runtime/chat_template/jinja_functions.h"
#include "runtime/chat_template/jinja_operators.h"

namespace ccoe::chat_template {
namespace {

// A scope and a loop variable for each iteration cost far more than a step.
constexpr int64_t kIterationSteps = 16;

using Expression = JinjaExpression;
using Statement = JinjaStatement;
using Result = absl::StatusOr<JinjaValue>;

absl::Status AtLine(const absl::Status& status, int line) {
  return Annotate(status, absl::StrCat("line ", line));
}

// Expressions in the light of the variables of the loops around them.
class Expressions {
 public:
  Expressions(const JinjaVariables& variables, JinjaBudget& budget)
      : scopes_({variables}), budget_(budget) {}

  std::vector<JinjaVariables>& scopes() { return scopes_; }

  const JinjaValue* Find(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      const auto found = scope->find(name);
      if (found != scope->end()) return &found->second;
    }
    return nullptr;
  }

  Result Evaluate(const Expression& node) {
    CCOE_RETURN_IF_ERROR(AtLine(budget_.Spend(1), node.line));
    switch (node.kind) {
      case Expression::Kind::kLiteral:
        return node.literal;
      case Expression::Kind::kName:
        return Name(node);
      case Expression::Kind::kAnd:
      case Expression::Kind::kOr:
        return Logic(node);
      case Expression::Kind::kConditional:
        return Conditional(node);
      case Expression::Kind::kCompare:
        return Compare(node);
      case Expression::Kind::kCall:
        return CallOf(node);
      case Expression::Kind::kSlice:
        return Slice(node);
      default:
        return WithOperands(node);
    }
  }

 private:
  Result Name(const Expression& node) const {
    const JinjaValue* value = Find(node.name);
    return value != nullptr ? *value : JinjaValue::MakeUndefined(node.name);
  }

  Result Logic(const Expression& node) {
    CCOE_ASSIGN_OR_RETURN(JinjaValue left, Evaluate(*node.children[0]));
    const bool decided = left.Truthy() == (node.kind == Expression::Kind::kOr);
    return decided ? left : Evaluate(*node.children[1]);
  }

  Result Conditional(const Expression& node) {
    CCOE_ASSIGN_OR_RETURN(const JinjaValue condition, Evaluate(*node.children[1]));
    if (condition.Truthy()) return Evaluate(*node.children[0]);
    if (node.children[2] == nullptr) return JinjaValue::MakeUndefined("else");
    return Evaluate(*node.children[2]);
  }

  Result Compare(const Expression& node) {
    CCOE_ASSIGN_OR_RETURN(JinjaValue left, Evaluate(*node.children[0]));
    for (size_t i = 0; i < node.operators.size(); ++i) {
      CCOE_ASSIGN_OR_RETURN(JinjaValue right, Evaluate(*node.children[i + 1]));
      CCOE_RETURN_IF_ERROR(AtLine(budget_.SpendBytes(left.weight() + right.weight()), node.line));
      const absl::StatusOr<bool> holds = CompareJinja(node.operators[i], left, right);
      if (!holds.ok()) return AtLine(holds.status(), node.line);
      if (!*holds) return JinjaValue(false);
      left = std::move(right);
    }
    return JinjaValue(true);
  }

  Result CallOf(const Expression& node) {
    CCOE_ASSIGN_OR_RETURN(const JinjaArguments arguments, Arguments(node));
    const Expression& callee = *node.children[0];
    if (callee.kind == Expression::Kind::kName && Find(callee.name) == nullptr) {
      return Located(CallJinjaFunction(callee.name, arguments, budget_), node);
    }
    if (callee.kind == Expression::Kind::kAttribute) {
      CCOE_ASSIGN_OR_RETURN(const JinjaValue object, Evaluate(*callee.children[0]));
      return Located(CallJinjaMethod(callee.name, object, arguments, budget_), node);
    }
    CCOE_ASSIGN_OR_RETURN(const JinjaValue value, Evaluate(callee));
    return Located(WrongJinjaKind("call", "a function", value), node);
  }

  Result Slice(const Expression& node) {
    CCOE_ASSIGN_OR_RETURN(const JinjaValue object, Evaluate(*node.children[0]));
    std::optional<int64_t> bounds[3];
    for (int i = 0; i < 3; ++i) {
      if (node.children[i + 1] == nullptr) continue;
      CCOE_ASSIGN_OR_RETURN(const JinjaValue bound, Evaluate(*node.children[i + 1]));
      if (bound.is_none()) continue;
      if (!bound.is_integer()) {
        return Located(WrongJinjaKind("slice", "an integer", bound), node);
      }
      bounds[i] = bound.AsInteger();
    }
    return Located(JinjaSlice(object, bounds[0], bounds[1], bounds[2], budget_), node);
  }

  // Positional arguments are the children after the first.
  absl::StatusOr<JinjaArguments> Arguments(const Expression& node) {
    JinjaArguments arguments;
    for (size_t i = 1; i < node.children.size(); ++i) {
      CCOE_ASSIGN_OR_RETURN(JinjaValue value, Evaluate(*node.children[i]));
      arguments.positional.push_back(std::move(value));
    }
    for (const auto& [name, expression] : node.keywords) {
      CCOE_ASSIGN_OR_RETURN(JinjaValue value, Evaluate(*expression));
      arguments.keywords.emplace_back(name, std::move(value));
    }
    return arguments;
  }

  // The kinds whose operands are all evaluated first.
  Result WithOperands(const Expression& node) {
    JinjaValue::List operands;
    for (const auto& child : node.children) {
      CCOE_ASSIGN_OR_RETURN(JinjaValue operand, Evaluate(*child));
      operands.push_back(std::move(operand));
    }
    switch (node.kind) {
      case Expression::Kind::kList:
        return Located(JinjaValue::MakeList(std::move(operands)), node);
      case Expression::Kind::kDict:
        return Located(Dict(operands), node);
      case Expression::Kind::kNot:
        return JinjaValue(!operands[0].Truthy());
      case Expression::Kind::kNegate:
        return Located(JinjaBinary("-", JinjaValue(int64_t{0}), operands[0], budget_), node);
      case Expression::Kind::kBinary:
        return Located(JinjaBinary(node.operators[0], operands[0], operands[1], budget_), node);
      case Expression::Kind::kAttribute:
        return Located(JinjaEntry(operands[0], node.name), node);
      case Expression::Kind::kItem:
        return Located(JinjaItem(operands[0], operands[1], budget_), node);
      default:
        return FilterOrTest(node, std::move(operands));
    }
  }

  Result FilterOrTest(const Expression& node, JinjaValue::List operands) {
    const JinjaValue input = operands[0];
    JinjaArguments arguments;
    arguments.positional.assign(operands.begin() + 1, operands.end());
    for (const auto& [name, expression] : node.keywords) {
      CCOE_ASSIGN_OR_RETURN(JinjaValue value, Evaluate(*expression));
      arguments.keywords.emplace_back(name, std::move(value));
    }
    if (node.kind == Expression::Kind::kFilter) {
      return Located(ApplyJinjaFilter(node.name, input, arguments, budget_), node);
    }
    CCOE_CHECK(node.kind == Expression::Kind::kTest);
    const absl::StatusOr<bool> holds = ApplyJinjaTest(node.name, input, arguments);
    if (!holds.ok()) return AtLine(holds.status(), node.line);
    return JinjaValue(*holds != node.negated);
  }

  static Result Dict(const JinjaValue::List& operands) {
    JinjaValue::Dict entries;
    for (size_t i = 0; i + 1 < operands.size(); i += 2) {
      if (!operands[i].is_string()) return WrongJinjaKind("a dict's key", "a string", operands[i]);
      entries.emplace_back(operands[i].AsString(), operands[i + 1]);
    }
    return JinjaValue::MakeDict(std::move(entries));
  }

  static Result Located(Result result, const Expression& node) {
    if (!result.ok()) return AtLine(result.status(), node.line);
    return result;
  }

  std::vector<JinjaVariables> scopes_;  // the innermost last
  JinjaBudget& budget_;
};

class Evaluator {
 public:
  Evaluator(const JinjaVariables& variables, const JinjaLimits& limits)
      : limits_(limits), budget_(limits.max_steps), expressions_(variables, budget_) {}

  absl::StatusOr<std::string> Run(const Statement::Body& body) {
    CCOE_RETURN_IF_ERROR(RunBody(body).status());
    return std::move(out_);
  }

 private:
  // What a statement does to the loop around it.
  enum class Flow { kNext, kBreak, kContinue };

  absl::StatusOr<Flow> RunBody(const Statement::Body& body) {
    for (const Statement& statement : body) {
      CCOE_RETURN_IF_ERROR(AtLine(budget_.Spend(1), statement.line));
      CCOE_ASSIGN_OR_RETURN(const Flow flow, RunStatement(statement));
      if (flow != Flow::kNext) return flow;
    }
    return Flow::kNext;
  }

  absl::StatusOr<Flow> RunStatement(const Statement& statement) {
    switch (statement.kind) {
      case Statement::Kind::kText:
        CCOE_RETURN_IF_ERROR(Print(statement.text, statement.line));
        return Flow::kNext;
      case Statement::Kind::kOutput: {
        CCOE_ASSIGN_OR_RETURN(const JinjaValue value, expressions_.Evaluate(*statement.value));
        CCOE_RETURN_IF_ERROR(Print(JinjaText(value), statement.line));
        return Flow::kNext;
      }
      case Statement::Kind::kIf:
        return RunIf(statement);
      case Statement::Kind::kFor:
        return RunFor(statement);
      case Statement::Kind::kSet:
        CCOE_RETURN_IF_ERROR(AtLine(Set(statement), statement.line));
        return Flow::kNext;
      case Statement::Kind::kSetBlock:
        return SetBlock(statement);
      case Statement::Kind::kBreak:
        return Flow::kBreak;
      case Statement::Kind::kContinue:
        return Flow::kContinue;
    }
    return Flow::kNext;
  }

  absl::Status Print(const std::string& text, int line) {
    CCOE_RETURN_IF_ERROR(AtLine(budget_.SpendBytes(text.size()), line));
    if (text.size() > limits_.max_output_bytes - out_.size()) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "line ", line, ": the template prints more than ", limits_.max_output_bytes, " bytes"));
    }
    out_ += text;
    return absl::OkStatus();
  }

  absl::StatusOr<Flow> RunIf(const Statement& statement) {
    for (const Statement::Branch& branch : statement.branches) {
      CCOE_ASSIGN_OR_RETURN(const JinjaValue holds, expressions_.Evaluate(*branch.condition));
      if (holds.Truthy()) return RunBody(branch.body);
    }
    return RunBody(statement.otherwise);
  }

  absl::Status Set(const Statement& statement) {
    absl::StatusOr<JinjaValue> value = expressions_.Evaluate(*statement.value);
    if (!value.ok()) return value.status();
    const std::string& target = statement.targets[0];
    if (statement.attribute.empty()) {
      expressions_.scopes().back()[target] = *std::move(value);
      return absl::OkStatus();
    }
    const JinjaValue* object = expressions_.Find(target);
    if (object == nullptr || !object->is_namespace()) {
      return absl::InvalidArgumentError(absl::StrCat("'", target, "' is not a namespace"));
    }
    return object->SetInNamespace(statement.attribute, *std::move(value));
  }

  absl::StatusOr<Flow> SetBlock(const Statement& statement) {
    std::string outer = std::exchange(out_, std::string());
    const absl::StatusOr<Flow> flow = RunBody(statement.body);
    std::string inner = std::exchange(out_, std::move(outer));
    if (!flow.ok()) return flow;
    expressions_.scopes().back()[statement.targets[0]] = JinjaValue(std::move(inner));
    return flow;
  }

  // Gives the loop's variables their values from `item`, which holds one a target if there are
  // several.
  absl::Status Bind(const Statement& statement, const JinjaValue& item) {
    JinjaVariables& scope = expressions_.scopes().back();
    if (statement.targets.size() == 1) {
      scope[statement.targets[0]] = item;
      return absl::OkStatus();
    }
    if (!item.is_list() || item.AsList().size() != statement.targets.size()) {
      return absl::InvalidArgumentError(absl::StrCat("line ", statement.line, ": expected ",
                                                     statement.targets.size(),
                                                     " values for the loop's names"));
    }
    for (size_t i = 0; i < statement.targets.size(); ++i) {
      scope[statement.targets[i]] = item.AsList()[i];
    }
    return absl::OkStatus();
  }

  absl::StatusOr<JinjaValue::List> LoopItems(const Statement& statement) {
    CCOE_ASSIGN_OR_RETURN(const JinjaValue value, expressions_.Evaluate(*statement.value));
    absl::StatusOr<JinjaValue::List> items = JinjaItems(value, budget_);
    if (!items.ok()) return AtLine(items.status(), statement.line);
    if (statement.condition == nullptr) return items;
    JinjaValue::List kept;
    expressions_.scopes().emplace_back();
    for (const JinjaValue& item : *items) {
      CCOE_RETURN_IF_ERROR(Bind(statement, item));
      CCOE_ASSIGN_OR_RETURN(const JinjaValue keep, expressions_.Evaluate(*statement.condition));
      if (keep.Truthy()) kept.push_back(item);
    }
    expressions_.scopes().pop_back();
    return kept;
  }

  static absl::StatusOr<JinjaValue> LoopVariable(const JinjaValue::List& items, size_t at) {
    const auto index = static_cast<int64_t>(at);
    const auto length = static_cast<int64_t>(items.size());
    JinjaValue::Dict loop = {{"index", index + 1},
                             {"index0", index},
                             {"revindex", length - index},
                             {"revindex0", length - index - 1},
                             {"first", index == 0},
                             {"last", index + 1 == length},
                             {"length", length}};
    if (index > 0) loop.emplace_back("previtem", items[at - 1]);
    if (index + 1 < length) loop.emplace_back("nextitem", items[at + 1]);
    return JinjaValue::MakeDict(std::move(loop));
  }

  absl::StatusOr<Flow> RunFor(const Statement& statement) {
    CCOE_ASSIGN_OR_RETURN(const JinjaValue::List items, LoopItems(statement));
    if (items.empty()) return RunBody(statement.otherwise);
    for (size_t i = 0; i < items.size(); ++i) {
      CCOE_RETURN_IF_ERROR(AtLine(budget_.Spend(kIterationSteps), statement.line));
      // What an iteration sets is gone in the next: each has a scope of its own.
      expressions_.scopes().emplace_back();
      absl::StatusOr<JinjaValue> loop = LoopVariable(items, i);
      if (!loop.ok()) return AtLine(loop.status(), statement.line);
      expressions_.scopes().back()["loop"] = *std::move(loop);
      CCOE_RETURN_IF_ERROR(Bind(statement, items[i]));
      CCOE_ASSIGN_OR_RETURN(const Flow flow, RunBody(statement.body));
      expressions_.scopes().pop_back();
      if (flow == Flow::kBreak) break;
    }
    return Flow::kNext;
  }

  JinjaLimits limits_;
  JinjaBudget budget_;
  Expressions expressions_;
  std::string out_;
};

}  // namespace

absl::StatusOr<std::string> EvaluateJinja(const Statement::Body& body,
                                          const JinjaVariables& variables,
                                          const JinjaLimits& limits) {
  return Evaluator(variables, limits).Run(body);
}

}  // namespace ccoe::chat_template
