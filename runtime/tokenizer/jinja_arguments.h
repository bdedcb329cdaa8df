// The arguments of a call in a template, and how filters and functions read them.
#ifndef CCOE_RUNTIME_TOKENIZER_JINJA_ARGUMENTS_H_
#define CCOE_RUNTIME_TOKENIZER_JINJA_ARGUMENTS_H_

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/tokenizer/jinja_value.h"

namespace ccoe::tokenizer {

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

// INVALID_ARGUMENT "`function`: expected `expected`, found <its kind>".
absl::Status WrongJinjaKind(absl::string_view function, absl::string_view expected,
                            const JinjaValue& found);

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_JINJA_ARGUMENTS_H_
