// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat_template/jinja_filters.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "runtime/base/status_macros.h"
#include "runtime/chat_template/jinja_operators.h"
#include "runtime/tokenizer/unicode.h"

namespace ccoe::chat_template {
namespace {

using tokenizer::Lowercase;

// A test without arguments.
using Predicate = bool (*)(const JinjaValue&);

bool IsEven(const JinjaValue& x) { return x.is_integer() && x.AsInteger() % 2 == 0; }
bool IsOdd(const JinjaValue& x) { return x.is_integer() && x.AsInteger() % 2 != 0; }
bool IsIterable(const JinjaValue& x) {
  return x.is_string() || x.is_list() || x.is_dict() || x.is_undefined();
}

const absl::flat_hash_map<std::string, Predicate>& Predicates() {
  static const auto* const table = new absl::flat_hash_map<std::string, Predicate>{
      {"defined", [](const JinjaValue& x) { return !x.is_undefined(); }},
      {"undefined", [](const JinjaValue& x) { return x.is_undefined(); }},
      {"none", [](const JinjaValue& x) { return x.is_none(); }},
      {"string", [](const JinjaValue& x) { return x.is_string(); }},
      {"mapping", [](const JinjaValue& x) { return x.is_dict(); }},
      {"iterable", IsIterable},
      // To Python whatever has a length and an index.
      {"sequence", IsIterable},
      {"boolean", [](const JinjaValue& x) { return x.is_bool(); }},
      {"true", [](const JinjaValue& x) { return x.is_bool() && x.Truthy(); }},
      {"false", [](const JinjaValue& x) { return x.is_bool() && !x.Truthy(); }},
      {"integer", [](const JinjaValue& x) { return x.is_integer() && !x.is_bool(); }},
      {"float", [](const JinjaValue& x) { return x.is_number() && !x.is_integer(); }},
      {"number", [](const JinjaValue& x) { return x.is_number(); }},
      {"even", IsEven},
      {"odd", IsOdd},
  };
  return *table;
}

// A test against one other value, by the operator that it means.
const absl::flat_hash_map<std::string, std::string>& Comparisons() {
  static const auto* const table = new absl::flat_hash_map<std::string, std::string>{
      {"equalto", "=="}, {"eq", "=="}, {"ne", "!="}, {"lt", "<"},
      {"le", "<="},      {"gt", ">"},  {"ge", ">="}, {"in", "in"},
  };
  return *table;
}

constexpr int64_t kMaxIndent = 16;

struct Call {
  const JinjaValue& input;
  const JinjaArguments& arguments;
  JinjaBudget& budget;
};
using Result = absl::StatusOr<JinjaValue>;
using Filter = Result (*)(const Call&);

// The input as text, which for a list or dict takes in all that it holds.
absl::StatusOr<std::string> Text(const Call& call) {
  CCOE_RETURN_IF_ERROR(call.budget.SpendBytes(call.input.weight()));
  return JinjaText(call.input);
}

Result Trim(const Call& call) {
  CCOE_RETURN_IF_ERROR(call.arguments.Expect(1, {"chars"}, "trim"));
  CCOE_ASSIGN_OR_RETURN(const auto characters, call.arguments.String(0, "chars", "trim"));
  CCOE_ASSIGN_OR_RETURN(const std::string text, Text(call));
  return JinjaValue(StripText(text, characters, TextSide::kBoth));
}

template <std::string (*kChange)(absl::string_view)>
Result ChangeText(const Call& call) {
  CCOE_RETURN_IF_ERROR(call.arguments.Expect(0, {}, "a filter on text"));
  CCOE_ASSIGN_OR_RETURN(const std::string text, Text(call));
  return JinjaValue(kChange(text));
}

Result ToText(const Call& call) {
  CCOE_ASSIGN_OR_RETURN(std::string text, Text(call));
  return JinjaValue(std::move(text));
}

Result Length(const Call& call) {
  const JinjaValue& input = call.input;
  if (input.is_undefined()) return JinjaValue(int64_t{0});
  if (input.is_list()) return JinjaValue(static_cast<int64_t>(input.AsList().size()));
  if (input.is_dict()) return JinjaValue(static_cast<int64_t>(input.AsDict().size()));
  if (!input.is_string()) return WrongJinjaKind("length", "a string, list or dict", input);
  return JinjaValue(static_cast<int64_t>(Characters(input.AsString()).size()));
}

Result ToJson(const Call& call) {
  CCOE_RETURN_IF_ERROR(
      call.arguments.Expect(1, {"indent", "ensure_ascii", "separators", "sort_keys"}, "tojson"));
  for (const auto& [name, value] : call.arguments.keywords) {
    const bool harmless = name == "indent" || !value.Truthy();
    if (!harmless) return absl::UnimplementedError(absl::StrCat("tojson: argument '", name, "'"));
  }
  CCOE_ASSIGN_OR_RETURN(const auto indent, call.arguments.Integer(0, "indent", "tojson"));
  if (indent.value_or(0) < 0 || indent.value_or(0) > kMaxIndent) {
    return absl::InvalidArgumentError(
        absl::StrCat("tojson: expected an indent in [0, ", kMaxIndent, "], found ", *indent));
  }
  // With an indent each value may take a line of blanks.
  CCOE_RETURN_IF_ERROR(call.budget.SpendBytes(call.input.weight() * (indent.has_value() ? 32 : 1)));
  CCOE_ASSIGN_OR_RETURN(std::string json,
                        JinjaJson(call.input, static_cast<int>(indent.value_or(-1))));
  return JinjaValue(std::move(json));
}

Result Default(const Call& call) {
  CCOE_RETURN_IF_ERROR(call.arguments.Expect(2, {"default_value", "boolean"}, "default"));
  const JinjaValue* boolean = call.arguments.Find(1, "boolean");
  const bool replace = call.input.is_undefined() ||
                       (boolean != nullptr && boolean->Truthy() && !call.input.Truthy());
  if (!replace) return call.input;
  const JinjaValue* value = call.arguments.Find(0, "default_value");
  return value == nullptr ? JinjaValue(std::string()) : *value;
}

// The entry that a dotted path names.
Result Path(const JinjaValue& item, const std::string& path) {
  JinjaValue value = item;
  for (const std::string& name : SplitText(path, ".", -1)) {
    CCOE_ASSIGN_OR_RETURN(value, JinjaEntry(value, name));
  }
  return value;
}

Result Join(const Call& call) {
  CCOE_RETURN_IF_ERROR(call.arguments.Expect(2, {"d", "attribute"}, "join"));
  CCOE_ASSIGN_OR_RETURN(const auto separator, call.arguments.String(0, "d", "join"));
  CCOE_ASSIGN_OR_RETURN(const auto attribute, call.arguments.String(1, "attribute", "join"));
  CCOE_ASSIGN_OR_RETURN(const JinjaValue::List items, JinjaItems(call.input, call.budget));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    JinjaValue item = items[i];
    if (attribute.has_value()) {
      CCOE_ASSIGN_OR_RETURN(item, Path(item, *attribute));
    }
    const size_t before = out.size();
    if (i > 0) out += separator.value_or("");
    out += JinjaText(item);
    CCOE_RETURN_IF_ERROR(call.budget.SpendBytes(out.size() - before));
  }
  return JinjaValue(std::move(out));
}

template <bool kFirst>
Result End(const Call& call) {
  CCOE_ASSIGN_OR_RETURN(const JinjaValue::List items, JinjaItems(call.input, call.budget));
  if (items.empty()) return JinjaValue::MakeUndefined(kFirst ? "first" : "last");
  return kFirst ? items.front() : items.back();
}

Result ToList(const Call& call) {
  CCOE_ASSIGN_OR_RETURN(JinjaValue::List items, JinjaItems(call.input, call.budget));
  return JinjaValue::MakeList(std::move(items));
}

Result Reverse(const Call& call) {
  CCOE_ASSIGN_OR_RETURN(JinjaValue::List items, JinjaItems(call.input, call.budget));
  std::reverse(items.begin(), items.end());
  if (!call.input.is_string()) return JinjaValue::MakeList(std::move(items));
  std::string text;
  for (const JinjaValue& item : items) text += item.AsString();
  return JinjaValue(std::move(text));
}

Result ToInteger(const Call& call) {
  CCOE_RETURN_IF_ERROR(call.arguments.Expect(1, {"default"}, "int"));
  CCOE_ASSIGN_OR_RETURN(const auto fallback, call.arguments.Integer(0, "default", "int"));
  int64_t integer = 0;
  if (call.input.is_integer()) return JinjaValue(call.input.AsInteger());
  if (call.input.is_number() && call.input.AsNumber() > -9e18 && call.input.AsNumber() < 9e18) {
    return JinjaValue(static_cast<int64_t>(call.input.AsNumber()));
  }
  if (call.input.is_string() && absl::SimpleAtoi(call.input.AsString(), &integer)) {
    return JinjaValue(integer);
  }
  return JinjaValue(fallback.value_or(0));
}

Result Replace(const Call& call) {
  CCOE_RETURN_IF_ERROR(call.arguments.Expect(2, {"old", "new"}, "replace"));
  CCOE_ASSIGN_OR_RETURN(const auto old_text, call.arguments.String(0, "old", "replace"));
  CCOE_ASSIGN_OR_RETURN(const auto new_text, call.arguments.String(1, "new", "replace"));
  CCOE_ASSIGN_OR_RETURN(const std::string text, Text(call));
  return ReplaceJinja(text, old_text.value_or(""), new_text.value_or(""), call.budget);
}

Result Items(const Call& call) {
  if (call.input.is_undefined()) return JinjaValue::MakeList({});
  if (!call.input.is_dict()) return WrongJinjaKind("items", "a dict", call.input);
  return JinjaPairs(call.input, call.budget);
}

// The items of which an attribute passes a test (kKeep), or does not.
template <bool kKeep>
Result SelectByAttribute(const Call& call) {
  const JinjaValue::List& given = call.arguments.positional;
  CCOE_ASSIGN_OR_RETURN(const auto path, call.arguments.String(0, "attribute", "selectattr"));
  CCOE_ASSIGN_OR_RETURN(const auto test, call.arguments.String(1, "test", "selectattr"));
  JinjaArguments test_arguments;
  if (given.size() > 2) test_arguments.positional.assign(given.begin() + 2, given.end());
  CCOE_ASSIGN_OR_RETURN(const JinjaValue::List items, JinjaItems(call.input, call.budget));
  JinjaValue::List picked;
  for (const JinjaValue& item : items) {
    CCOE_ASSIGN_OR_RETURN(const JinjaValue value, Path(item, path.value_or("")));
    bool passes = value.Truthy();
    if (test.has_value()) {
      CCOE_ASSIGN_OR_RETURN(passes, ApplyJinjaTest(*test, value, test_arguments));
    }
    if (passes == kKeep) picked.push_back(item);
  }
  return JinjaValue::MakeList(std::move(picked));
}

Result Map(const Call& call) {
  CCOE_RETURN_IF_ERROR(call.arguments.Expect(1, {"attribute", "default"}, "map"));
  CCOE_ASSIGN_OR_RETURN(const JinjaValue::List items, JinjaItems(call.input, call.budget));
  const bool by_filter = !call.arguments.positional.empty();
  CCOE_ASSIGN_OR_RETURN(const auto name, call.arguments.String(0, "attribute", "map"));
  const JinjaValue* fallback = call.arguments.Find(1, "default");
  JinjaValue::List mapped;
  for (const JinjaValue& item : items) {
    JinjaValue value;
    if (by_filter) {
      // A filter on each item may not map again, so that calls do not nest without end.
      if (name.value_or("") == "map") return absl::UnimplementedError("map: filter 'map'");
      CCOE_ASSIGN_OR_RETURN(value, ApplyJinjaFilter(name.value_or(""), item, {}, call.budget));
    } else {
      CCOE_ASSIGN_OR_RETURN(value, Path(item, name.value_or("")));
      if (value.is_undefined() && fallback != nullptr) value = *fallback;
    }
    mapped.push_back(std::move(value));
  }
  return JinjaValue::MakeList(std::move(mapped));
}

const absl::flat_hash_map<std::string, Filter>& Filters() {
  static const auto* const table = new absl::flat_hash_map<std::string, Filter>{
      {"trim", Trim},
      {"upper", ChangeText<UpperText>},
      {"lower", ChangeText<Lowercase>},
      {"capitalize", ChangeText<CapitalizeText>},
      {"title", ChangeText<TitleText>},
      {"string", ToText},
      {"safe", ToText},
      {"length", Length},
      {"count", Length},
      {"tojson", ToJson},
      {"default", Default},
      {"d", Default},
      {"join", Join},
      {"first", End<true>},
      {"last", End<false>},
      {"list", ToList},
      {"reverse", Reverse},
      {"int", ToInteger},
      {"replace", Replace},
      {"items", Items},
      {"selectattr", SelectByAttribute<true>},
      {"rejectattr", SelectByAttribute<false>},
      {"map", Map},
  };
  return *table;
}

}  // namespace

bool IsJinjaTest(absl::string_view name) {
  return Predicates().contains(name) || Comparisons().contains(name);
}

absl::StatusOr<bool> ApplyJinjaTest(const std::string& name, const JinjaValue& input,
                                    const JinjaArguments& arguments) {
  const size_t given = arguments.positional.size() + arguments.keywords.size();
  if (const auto found = Predicates().find(name); found != Predicates().end()) {
    CCOE_RETURN_IF_ERROR(arguments.Expect(0, {}, absl::StrCat("test ", name)));
    return found->second(input);
  }
  const auto comparison = Comparisons().find(name);
  if (comparison == Comparisons().end()) {
    return absl::UnimplementedError(absl::StrCat("test '", name, "'"));
  }
  if (given != 1 || arguments.positional.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("test ", name, ": expected one argument"));
  }
  return CompareJinja(comparison->second, input, arguments.positional[0]);
}

bool IsJinjaFilter(absl::string_view name) { return Filters().contains(name); }

absl::StatusOr<JinjaValue> ApplyJinjaFilter(const std::string& name, const JinjaValue& input,
                                            const JinjaArguments& arguments, JinjaBudget& budget) {
  const auto filter = Filters().find(name);
  if (filter == Filters().end()) {
    return absl::UnimplementedError(absl::StrCat("filter '", name, "'"));
  }
  CCOE_RETURN_IF_ERROR(budget.SpendBytes(input.own_weight()));
  return filter->second({input, arguments, budget});
}

}  // namespace ccoe::chat_template
