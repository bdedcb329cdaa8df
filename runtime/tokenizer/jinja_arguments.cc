#include "runtime/tokenizer/jinja_arguments.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace ccoe::tokenizer {

absl::Status WrongJinjaKind(absl::string_view function, absl::string_view expected,
                            const JinjaValue& found) {
  std::string what = absl::StrCat(function, ": expected ", expected, ", found ", found.KindName());
  if (found.is_undefined()) absl::StrAppend(&what, " ('", found.UndefinedName(), "')");
  return absl::InvalidArgumentError(what);
}

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

}  // namespace ccoe::tokenizer
