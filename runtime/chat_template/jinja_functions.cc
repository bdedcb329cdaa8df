// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat_template/jinja_functions.h"

#include <utf8proc.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/chat_template/jinja_operators.h"
#include "runtime/tokenizer/unicode.h"

namespace ccoe::chat_template {
namespace {

using tokenizer::AppendUtf8;
using tokenizer::DecodeUtf8;
using tokenizer::IsWhitespace;
using tokenizer::Lowercase;
using tokenizer::StripLeft;
using tokenizer::StripRight;

// Python's str.isspace also takes the four separators of ASCII.
bool IsPythonSpace(char32_t c) { return IsWhitespace(c) || (c >= 0x1C && c <= 0x1F); }

bool IsLetter(absl::string_view character) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(DecodeUtf8(character, 0).code_point))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
      return true;
    default:
      return false;
  }
}

absl::string_view StripOf(absl::string_view text, const std::string& characters, TextSide side) {
  const std::vector<absl::string_view> all = Characters(text);
  const std::vector<absl::string_view> strip = Characters(characters);
  const auto goes = [&strip](absl::string_view character) {
    return std::find(strip.begin(), strip.end(), character) != strip.end();
  };
  size_t begin = 0;
  size_t end = all.size();
  if (side != TextSide::kRight) {
    while (begin < end && goes(all[begin])) ++begin;
  }
  if (side != TextSide::kLeft) {
    while (end > begin && goes(all[end - 1])) --end;
  }
  if (begin == end) return "";
  const char* first = all[begin].data();
  return absl::string_view(first, all[end - 1].data() + all[end - 1].size() - first);
}

std::vector<std::string> SplitAtSpace(absl::string_view text, int64_t limit) {
  std::vector<std::string> parts;
  text = StripLeft(text, IsPythonSpace);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<int64_t>(parts.size()) >= limit) {
      parts.emplace_back(StripRight(text, IsPythonSpace));
      break;
    }
    const absl::string_view rest =
        StripLeft(text, [](char32_t character) { return !IsPythonSpace(character); });
    parts.emplace_back(text.substr(0, text.size() - rest.size()));
    text = StripLeft(rest, IsPythonSpace);
  }
  return parts;
}

struct Call {
  const JinjaValue& object;
  const JinjaArguments& arguments;
  JinjaBudget& budget;
};
using Result = absl::StatusOr<JinjaValue>;
using Method = Result (*)(const Call&);

constexpr int64_t kMaxRange = 100'000;

template <TextSide kSide>
Result Strip(const Call& call) {
  CCOE_RETURN_IF_ERROR(call.arguments.Expect(1, {}, "strip"));
  CCOE_ASSIGN_OR_RETURN(const auto characters, call.arguments.String(0, "", "strip"));
  return JinjaValue(StripText(call.object.AsString(), characters, kSide));
}

template <std::string (*kChange)(absl::string_view)>
Result ChangeText(const Call& call) {
  CCOE_RETURN_IF_ERROR(call.arguments.Expect(0, {}, "a method on text"));
  return JinjaValue(kChange(call.object.AsString()));
}

Result Split(const Call& call) {
  CCOE_RETURN_IF_ERROR(call.arguments.Expect(2, {"sep", "maxsplit"}, "split"));
  CCOE_ASSIGN_OR_RETURN(const auto separator, call.arguments.String(0, "sep", "split"));
  CCOE_ASSIGN_OR_RETURN(const auto limit, call.arguments.Integer(1, "maxsplit", "split"));
  if (separator.has_value() && separator->empty()) {
    return absl::InvalidArgumentError("split: the separator is empty");
  }
  // A part takes more than its bytes.
  CCOE_RETURN_IF_ERROR(call.budget.Spend(call.object.weight() / 8));
  JinjaValue::List parts;
  for (std::string& part : SplitText(call.object.AsString(), separator, limit.value_or(-1))) {
    parts.emplace_back(std::move(part));
  }
  return JinjaValue::MakeList(std::move(parts));
}

template <bool kStart>
Result HasEnd(const Call& call) {
  CCOE_RETURN_IF_ERROR(call.arguments.Expect(1, {}, "startswith or endswith"));
  CCOE_ASSIGN_OR_RETURN(const auto end, call.arguments.String(0, "", "startswith or endswith"));
  if (!end.has_value()) {
    return absl::InvalidArgumentError("startswith or endswith: expected a string, found nothing");
  }
  return JinjaValue(kStart ? absl::StartsWith(call.object.AsString(), *end)
                           : absl::EndsWith(call.object.AsString(), *end));
}

Result Replace(const Call& call) {
  CCOE_RETURN_IF_ERROR(call.arguments.Expect(2, {}, "replace"));
  CCOE_ASSIGN_OR_RETURN(const auto old_text, call.arguments.String(0, "", "replace"));
  CCOE_ASSIGN_OR_RETURN(const auto new_text, call.arguments.String(1, "", "replace"));
  return ReplaceJinja(call.object.AsString(), old_text.value_or(""), new_text.value_or(""),
                      call.budget);
}

Result Items(const Call& call) { return JinjaPairs(call.object, call.budget); }

template <bool kKeys>
Result Side(const Call& call) {
  JinjaValue::List side;
  for (const auto& [key, value] : call.object.AsDict()) {
    side.push_back(kKeys ? JinjaValue(key) : value);
  }
  return JinjaValue::MakeList(std::move(side));
}

Result Get(const Call& call) {
  CCOE_RETURN_IF_ERROR(call.arguments.Expect(2, {}, "get"));
  CCOE_ASSIGN_OR_RETURN(const auto key, call.arguments.String(0, "", "get"));
  const JinjaValue* found = key.has_value() ? call.object.FindEntry(*key) : nullptr;
  if (found != nullptr) return *found;
  const JinjaValue* fallback = call.arguments.Find(1, "");
  return fallback == nullptr ? JinjaValue() : *fallback;
}

const absl::flat_hash_map<std::string, Method>& TextMethods() {
  static const auto* const table = new absl::flat_hash_map<std::string, Method>{
      {"strip", Strip<TextSide::kBoth>},
      {"lstrip", Strip<TextSide::kLeft>},
      {"rstrip", Strip<TextSide::kRight>},
      {"upper", ChangeText<UpperText>},
      {"lower", ChangeText<Lowercase>},
      {"capitalize", ChangeText<CapitalizeText>},
      {"title", ChangeText<TitleText>},
      {"split", Split},
      {"startswith", HasEnd<true>},
      {"endswith", HasEnd<false>},
      {"replace", Replace},
  };
  return *table;
}

const absl::flat_hash_map<std::string, Method>& DictMethods() {
  static const auto* const table = new absl::flat_hash_map<std::string, Method>{
      {"items", Items}, {"keys", Side<true>}, {"values", Side<false>}, {"get", Get}};
  return *table;
}

Result Namespace(const JinjaArguments& arguments) {
  CCOE_RETURN_IF_ERROR(arguments.Expect(
      0,
      [&] {
        std::vector<absl::string_view> names;
        for (const auto& keyword : arguments.keywords) names.push_back(keyword.first);
        return names;
      }(),
      "namespace"));
  const JinjaValue made = JinjaValue::MakeNamespace();
  for (const auto& [name, value] : arguments.keywords) {
    CCOE_RETURN_IF_ERROR(made.SetInNamespace(name, value));
  }
  return made;
}

Result Range(const JinjaArguments& arguments, JinjaBudget& budget) {
  CCOE_RETURN_IF_ERROR(arguments.Expect(3, {}, "range"));
  int64_t bounds[3] = {0, 0, 1};
  for (size_t i = 0; i < arguments.positional.size(); ++i) {
    const JinjaValue& bound = arguments.positional[i];
    if (!bound.is_integer()) return WrongJinjaKind("range", "an integer", bound);
    bounds[i] = bound.AsInteger();
    if (bounds[i] > kMaxRange || bounds[i] < -kMaxRange) {
      return absl::InvalidArgumentError(
          absl::StrCat("range: expected a bound within ", kMaxRange, ", found ", bounds[i]));
    }
  }
  if (arguments.positional.size() == 1) std::swap(bounds[0], bounds[1]);
  if (bounds[2] == 0) return absl::InvalidArgumentError("range: the step is 0");
  JinjaValue::List items;
  for (int64_t i = bounds[0]; bounds[2] > 0 ? i < bounds[1] : i > bounds[1]; i += bounds[2]) {
    CCOE_RETURN_IF_ERROR(budget.Spend(1));
    items.emplace_back(i);
  }
  return JinjaValue::MakeList(std::move(items));
}

}  // namespace

const JinjaValue* JinjaArguments::Find(size_t position, absl::string_view name) const {
  if (position < positional.size()) return &positional[position];
  for (const auto& [keyword, value] : keywords) {
    if (keyword == name) return &value;
  }
  return nullptr;
}

absl::StatusOr<std::optional<std::string>> JinjaArguments::String(
    size_t position, absl::string_view name, absl::string_view function) const {
  const JinjaValue* value = Find(position, name);
  if (value == nullptr || value->is_none()) return std::optional<std::string>();
  if (!value->is_string()) return WrongJinjaKind(function, "a string", *value);
  return std::optional<std::string>(value->AsString());
}

absl::StatusOr<std::optional<int64_t>> JinjaArguments::Integer(size_t position,
                                                               absl::string_view name,
                                                               absl::string_view function) const {
  const JinjaValue* value = Find(position, name);
  if (value == nullptr || value->is_none()) return std::optional<int64_t>();
  if (!value->is_integer()) return WrongJinjaKind(function, "an integer", *value);
  return std::optional<int64_t>(value->AsInteger());
}

absl::Status JinjaArguments::Expect(size_t positional_count,
                                    const std::vector<absl::string_view>& names,
                                    absl::string_view function) const {
  if (positional.size() > positional_count) {
    return absl::InvalidArgumentError(absl::StrCat(function, ": expected at most ",
                                                   positional_count, " arguments, found ",
                                                   positional.size()));
  }
  for (const auto& [keyword, value] : keywords) {
    if (std::find(names.begin(), names.end(), keyword) == names.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(function, ": unknown argument '", keyword, "'"));
    }
  }
  return absl::OkStatus();
}

std::string StripText(absl::string_view text, const std::optional<std::string>& characters,
                      TextSide side) {
  if (characters.has_value()) return std::string(StripOf(text, *characters, side));
  if (side != TextSide::kRight) text = StripLeft(text, IsPythonSpace);
  if (side != TextSide::kLeft) text = StripRight(text, IsPythonSpace);
  return std::string(text);
}

std::string UpperText(absl::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const tokenizer::Utf8Character character = DecodeUtf8(text, at);
    at += character.length;
    if (character.code_point == 0xDF) {
      out += "SS";  // the sharp s, the commonest of the letters that become two
      continue;
    }
    const auto upper = utf8proc_toupper(static_cast<utf8proc_int32_t>(character.code_point));
    AppendUtf8(static_cast<char32_t>(upper), out);
  }
  return out;
}

std::string CapitalizeText(absl::string_view text) {
  if (text.empty()) return "";
  const size_t first = DecodeUtf8(text, 0).length;
  return absl::StrCat(UpperText(text.substr(0, first)), Lowercase(text.substr(first)));
}

std::string TitleText(absl::string_view text) {
  std::string out;
  bool inside = false;
  for (const absl::string_view character : Characters(text)) {
    out += inside ? Lowercase(character) : UpperText(character);
    inside = IsLetter(character);
  }
  return out;
}

std::vector<std::string> SplitText(absl::string_view text,
                                   const std::optional<std::string>& separator, int64_t limit) {
  if (!separator.has_value() || separator->empty()) return SplitAtSpace(text, limit);
  std::vector<std::string> parts;
  while (limit < 0 || static_cast<int64_t>(parts.size()) < limit) {
    const size_t at = text.find(*separator);
    if (at == absl::string_view::npos) break;
    parts.emplace_back(text.substr(0, at));
    text.remove_prefix(at + separator->size());
  }
  parts.emplace_back(text);
  return parts;
}

absl::StatusOr<JinjaValue> CallJinjaFunction(const std::string& name,
                                             const JinjaArguments& arguments, JinjaBudget& budget) {
  if (name == "raise_exception") {
    const std::string message =
        arguments.positional.empty() ? "" : JinjaText(arguments.positional[0]);
    return absl::InvalidArgumentError(absl::StrCat("the template refuses: ", message));
  }
  if (name == "namespace") return Namespace(arguments);
  if (name == "dict") return JinjaValue::MakeDict(arguments.keywords);
  if (name == "range") return Range(arguments, budget);
  return absl::UnimplementedError(absl::StrCat("function '", name, "'"));
}

absl::StatusOr<JinjaValue> CallJinjaMethod(const std::string& name, const JinjaValue& object,
                                           const JinjaArguments& arguments, JinjaBudget& budget) {
  if (object.is_undefined()) {
    return absl::InvalidArgumentError(absl::StrCat("'", object.UndefinedName(), "' is undefined"));
  }
  CCOE_RETURN_IF_ERROR(budget.SpendBytes(object.own_weight()));
  if (object.is_string()) {
    const auto method = TextMethods().find(name);
    if (method != TextMethods().end()) return method->second({object, arguments, budget});
  }
  if (object.is_dict()) {
    const auto method = DictMethods().find(name);
    if (method != DictMethods().end()) return method->second({object, arguments, budget});
  }
  return absl::UnimplementedError(absl::StrCat("method '", name, "' of ", object.KindName()));
}

}  // namespace ccoe::chat_template
