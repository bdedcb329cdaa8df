// The filters of a template: x | trim, x | tojson(indent=2), ...
#ifndef CCOE_RUNTIME_TOKENIZER_JINJA_FILTERS_H_
#define CCOE_RUNTIME_TOKENIZER_JINJA_FILTERS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/jinja_arguments.h"

namespace ccoe::tokenizer {

bool IsJinjaFilter(absl::string_view name);

// INVALID_ARGUMENT for an input or arguments that the filter does not take.
absl::StatusOr<JinjaValue> ApplyJinjaFilter(const std::string& name, const JinjaValue& input,
                                            const JinjaArguments& arguments, JinjaBudget& budget);

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_JINJA_FILTERS_H_
