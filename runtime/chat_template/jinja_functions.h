// SPDX-License-Identifier: Apache-2.0
// The calls of a template: their arguments, and the functions and methods known here: namespace(),
// range(3), text.strip(), entries.items(), ...
#ifndef CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_FUNCTIONS_H_
#define CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_FUNCTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/chat_template/jinja_value.h"

namespace ccoe::chat_template {

// The arguments of a call (of a function, method, filter or test), and how they are read.
struct JinjaArguments {
  JinjaValue::List positional;
  std::vector<std::pair<std::string, JinjaValue>> keywords;

  // The argument at `position` or called `name`, nullptr if there is none.
  const JinjaValue* Find(size_t position, absl::string_view name) const;
  // The same as a string or an integer; nullopt if there is none, or if it is none.
  // INVALID_ARGUMENT for another kind; `function` is for the message.
  absl::StatusOr<std::optional<std::string>> String(size_t position, absl::string_view name,
                                                    absl::string_view function) const;
  absl::StatusOr<std::optional<int64_t>> Integer(size_t position, absl::string_view name,
                                                 absl::string_view function) const;
  // INVALID_ARGUMENT unless there are no more than `positional_count` positional arguments, and as
  // keywords only `names`.
  absl::Status Expect(size_t positional_count, const std::vector<absl::string_view>& names,
                      absl::string_view function) const;
};

// namespace, dict, range, raise_exception (which is INVALID_ARGUMENT with the template's message).
// UNIMPLEMENTED names any other.
absl::StatusOr<JinjaValue> CallJinjaFunction(const std::string& name,
                                             const JinjaArguments& arguments, JinjaBudget& budget);

// object.name(...), for methods of strings and dicts that change nothing. UNIMPLEMENTED names any
// other.
absl::StatusOr<JinjaValue> CallJinjaMethod(const std::string& name, const JinjaValue& object,
                                           const JinjaArguments& arguments, JinjaBudget& budget);

// What Python's str methods do, which filters do too. Texts are valid UTF-8.
enum class TextSide { kLeft, kRight, kBoth };

// str.strip: characters of `characters`, or white space if there is none given.
std::string StripText(absl::string_view text, const std::optional<std::string>& characters,
                      TextSide side);
std::string UpperText(absl::string_view text);
// The first character in upper case, the others in lower case.
std::string CapitalizeText(absl::string_view text);
// The same for each run of letters.
std::string TitleText(absl::string_view text);
// str.split: at each `separator`, or at runs of white space without one; at most `limit` cuts
// unless negative.
std::vector<std::string> SplitText(absl::string_view text,
                                   const std::optional<std::string>& separator, int64_t limit);

}  // namespace ccoe::chat_template

#endif  // CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_FUNCTIONS_H_
