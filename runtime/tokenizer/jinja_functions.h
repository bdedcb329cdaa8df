// The functions and methods of a template: namespace(), range(3), text.strip(), entries.items(),
// ...
#ifndef CCOE_RUNTIME_TOKENIZER_JINJA_FUNCTIONS_H_
#define CCOE_RUNTIME_TOKENIZER_JINJA_FUNCTIONS_H_

#include <string>

#include "absl/status/statusor.h"
#include "runtime/tokenizer/jinja_arguments.h"

namespace ccoe::tokenizer {

// namespace, dict, range, raise_exception (which is INVALID_ARGUMENT with the template's message).
// UNIMPLEMENTED names any other.
absl::StatusOr<JinjaValue> CallJinjaFunction(const std::string& name,
                                             const JinjaArguments& arguments, JinjaBudget& budget);

// object.name(...), for methods of strings and dicts that change nothing. UNIMPLEMENTED names any
// other.
absl::StatusOr<JinjaValue> CallJinjaMethod(const std::string& name, const JinjaValue& object,
                                           const JinjaArguments& arguments, JinjaBudget& budget);

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_JINJA_FUNCTIONS_H_
