// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat_template/jinja_operators.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/unicode.h"

namespace ccoe::chat_template {
namespace {

// Of one text: the budget alone would let a few doublings take half a gigabyte.
constexpr int64_t kMaxTextBytes = 64 << 20;

absl::Status Overflow(const std::string& op) {
  return absl::InvalidArgumentError(absl::StrCat("operator ", op, ": past 64 bits"));
}

absl::StatusOr<JinjaValue> Integers(const std::string& op, int64_t left, int64_t right) {
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(left, right, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(left, right, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(left, right, &result);
  } else if (right == -1) {
    // The one quotient that does not fit is of the least integer by -1.
    overflow = op == "//" && __builtin_sub_overflow(int64_t{0}, left, &result);
  } else {
    // Python rounds down, C++ towards zero.
    const int64_t remainder = left % right;
    const bool down = remainder != 0 && (remainder < 0) != (right < 0);
    result = op == "//" ? left / right - (down ? 1 : 0) : remainder + (down ? right : 0);
  }
  if (overflow) return Overflow(op);
  return JinjaValue(result);
}

absl::StatusOr<JinjaValue> Floats(const std::string& op, double left, double right) {
  double result = 0;
  if (op == "+") result = left + right;
  if (op == "-") result = left - right;
  if (op == "*") result = left * right;
  if (op == "/") result = left / right;
  if (op == "//") result = std::floor(left / right);
  if (op == "%") result = left - right * std::floor(left / right);
  if (!std::isfinite(result)) return Overflow(op);
  return JinjaValue(result);
}

absl::StatusOr<JinjaValue> Numbers(const std::string& op, const JinjaValue& left,
                                   const JinjaValue& right) {
  if ((op == "/" || op == "//" || op == "%") && right.AsNumber() == 0) {
    return absl::InvalidArgumentError(absl::StrCat("operator ", op, ": division by zero"));
  }
  if (op != "/" && left.is_integer() && right.is_integer()) {
    return Integers(op, left.AsInteger(), right.AsInteger());
  }
  return Floats(op, left.AsNumber(), right.AsNumber());
}

// -1, 0 or 1; only for kinds that have an order.
absl::StatusOr<int> Order(const std::string& op, const JinjaValue& left, const JinjaValue& right) {
  if (left.is_integer() && right.is_integer()) {
    return left.AsInteger() < right.AsInteger() ? -1 : left.AsInteger() > right.AsInteger();
  }
  if (left.is_number() && right.is_number()) {
    return left.AsNumber() < right.AsNumber() ? -1 : left.AsNumber() > right.AsNumber();
  }
  // UTF-8 sorts as its code points do.
  if (left.is_string() && right.is_string()) return left.AsString().compare(right.AsString());
  return absl::InvalidArgumentError(
      absl::StrCat("operator ", op, ": cannot order ", left.KindName(), " and ", right.KindName()));
}

absl::StatusOr<bool> Contains(const JinjaValue& item, const JinjaValue& container) {
  if (container.is_undefined()) return false;
  if (container.is_string()) {
    if (!item.is_string()) return WrongJinjaKind("operator in", "a string", item);
    return absl::StrContains(container.AsString(), item.AsString());
  }
  if (container.is_list()) {
    return std::any_of(container.AsList().begin(), container.AsList().end(),
                       [&item](const JinjaValue& other) { return JinjaEquals(item, other); });
  }
  if (container.is_dict()) {
    return item.is_string() && container.FindEntry(item.AsString()) != nullptr;
  }
  return WrongJinjaKind("operator in", "a string, list or dict", container);
}

}  // namespace

std::vector<absl::string_view> Characters(absl::string_view text) {
  std::vector<absl::string_view> characters;
  for (size_t at = 0; at < text.size();) {
    const size_t length = tokenizer::DecodeUtf8(text, at).length;
    characters.push_back(text.substr(at, length));
    at += length;
  }
  return characters;
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

absl::StatusOr<JinjaValue> JinjaBinary(const std::string& op, const JinjaValue& left,
                                       const JinjaValue& right, JinjaBudget& budget) {
  if (left.weight() + right.weight() > kMaxTextBytes && (op == "+" || op == "~")) {
    return absl::ResourceExhaustedError(
        absl::StrCat("operator ", op, ": the result is longer than ", kMaxTextBytes, " bytes"));
  }
  if (op == "~") {
    CCOE_RETURN_IF_ERROR(budget.SpendBytes(left.weight() + right.weight()));
    return JinjaValue(JinjaText(left) + JinjaText(right));
  }
  CCOE_RETURN_IF_ERROR(budget.SpendBytes(left.own_weight() + right.own_weight()));
  if (left.is_number() && right.is_number()) return Numbers(op, left, right);
  if (op == "+" && left.is_string() && right.is_string()) {
    return JinjaValue(left.AsString() + right.AsString());
  }
  if (op == "+" && left.is_list() && right.is_list()) {
    JinjaValue::List items = left.AsList();
    items.insert(items.end(), right.AsList().begin(), right.AsList().end());
    return JinjaValue::MakeList(std::move(items));
  }
  for (const JinjaValue* side : {&left, &right}) {
    if (side->is_undefined()) {
      return absl::InvalidArgumentError(absl::StrCat("'", side->UndefinedName(), "' is undefined"));
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("operator ", op, ": cannot take ", left.KindName(), " and ", right.KindName()));
}

absl::StatusOr<bool> CompareJinja(const std::string& op, const JinjaValue& left,
                                  const JinjaValue& right) {
  if (op == "==") return JinjaEquals(left, right);
  if (op == "!=") return !JinjaEquals(left, right);
  if (op == "in") return Contains(left, right);
  if (op == "not in") {
    CCOE_ASSIGN_OR_RETURN(const bool contains, Contains(left, right));
    return !contains;
  }
  CCOE_ASSIGN_OR_RETURN(const int order, Order(op, left, right));
  if (op == "<") return order < 0;
  if (op == "<=") return order <= 0;
  if (op == ">") return order > 0;
  return order >= 0;
}

absl::StatusOr<JinjaValue> JinjaEntry(const JinjaValue& object, const std::string& name) {
  if (object.is_undefined()) {
    return absl::InvalidArgumentError(absl::StrCat("'", object.UndefinedName(), "' is undefined"));
  }
  if (object.is_dict() || object.is_namespace()) {
    const JinjaValue* entry = object.FindEntry(name);
    if (entry != nullptr) return *entry;
  }
  return JinjaValue::MakeUndefined(name);
}

absl::StatusOr<JinjaValue> JinjaItem(const JinjaValue& object, const JinjaValue& index,
                                     JinjaBudget& budget) {
  if (index.is_string() || object.is_undefined()) {
    return JinjaEntry(object, index.is_string() ? index.AsString() : "");
  }
  if (!index.is_integer() || !(object.is_list() || object.is_string())) {
    return JinjaValue::MakeUndefined(JinjaText(index).substr(0, 40));
  }
  std::vector<absl::string_view> characters;
  if (object.is_string()) {
    CCOE_RETURN_IF_ERROR(budget.SpendBytes(object.own_weight()));
    characters = Characters(object.AsString());
  }
  const auto size =
      static_cast<int64_t>(object.is_list() ? object.AsList().size() : characters.size());
  const int64_t at = index.AsInteger() < 0 ? index.AsInteger() + size : index.AsInteger();
  if (at < 0 || at >= size) return JinjaValue::MakeUndefined(absl::StrCat(index.AsInteger()));
  if (object.is_list()) return object.AsList()[at];
  return JinjaValue(std::string(characters[at]));
}

absl::StatusOr<JinjaValue> JinjaSlice(const JinjaValue& object, std::optional<int64_t> start,
                                      std::optional<int64_t> stop, std::optional<int64_t> step,
                                      JinjaBudget& budget) {
  if (!object.is_list() && !object.is_string()) {
    return WrongJinjaKind("slice", "a list or string", object);
  }
  const int64_t stride = step.value_or(1);
  if (stride == 0) return absl::InvalidArgumentError("slice: the step is 0");
  CCOE_RETURN_IF_ERROR(budget.SpendBytes(object.own_weight()));
  if (object.is_string()) {
    const std::vector<absl::string_view> characters = Characters(object.AsString());
    std::string text;
    for (const size_t at :
         SlicePositions(static_cast<int64_t>(characters.size()), start, stop, stride)) {
      absl::StrAppend(&text, characters[at]);
    }
    return JinjaValue(std::move(text));
  }
  JinjaValue::List picked;
  for (const size_t at :
       SlicePositions(static_cast<int64_t>(object.AsList().size()), start, stop, stride)) {
    picked.push_back(object.AsList()[at]);
  }
  return JinjaValue::MakeList(std::move(picked));
}

absl::StatusOr<JinjaValue::List> JinjaItems(const JinjaValue& value, JinjaBudget& budget) {
  CCOE_RETURN_IF_ERROR(budget.SpendBytes(value.own_weight()));
  JinjaValue::List items;
  if (value.is_list()) {
    items = value.AsList();
  } else if (value.is_dict()) {
    for (const auto& [key, entry] : value.AsDict()) items.emplace_back(key);
  } else if (value.is_string()) {
    // A value a character takes far more than its bytes.
    CCOE_RETURN_IF_ERROR(budget.Spend(value.weight()));
    for (const absl::string_view character : Characters(value.AsString())) {
      items.emplace_back(std::string(character));
    }
  } else if (!value.is_undefined()) {
    return WrongJinjaKind("loop", "something to walk through", value);
  }
  return items;
}

absl::StatusOr<JinjaValue> ReplaceJinja(const std::string& text, const std::string& from,
                                        const std::string& to, JinjaBudget& budget) {
  if (from.empty()) return absl::InvalidArgumentError("replace: the text to replace is empty");
  std::string out;
  size_t done = 0;
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, done)) {
    out.append(text, done, at - done);
    out += to;
    done = at + from.size();
    CCOE_RETURN_IF_ERROR(budget.SpendBytes(to.size()));
  }
  out.append(text, done, std::string::npos);
  return JinjaValue(std::move(out));
}

absl::StatusOr<JinjaValue> JinjaPairs(const JinjaValue& dict, JinjaBudget& budget) {
  JinjaValue::List pairs;
  for (const auto& [key, value] : dict.AsDict()) {
    CCOE_RETURN_IF_ERROR(budget.Spend(1));
    CCOE_ASSIGN_OR_RETURN(JinjaValue pair, JinjaValue::MakeList({JinjaValue(key), value}));
    pairs.push_back(std::move(pair));
  }
  return JinjaValue::MakeList(std::move(pairs));
}

}  // namespace ccoe::chat_template
