// The tests of a template: x is defined, x is string, ...
#ifndef CCOE_RUNTIME_TOKENIZER_JINJA_TESTS_H_
#define CCOE_RUNTIME_TOKENIZER_JINJA_TESTS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/jinja_arguments.h"

namespace ccoe::tokenizer {

bool IsJinjaTest(absl::string_view name);

// INVALID_ARGUMENT for arguments that the test does not take.
absl::StatusOr<bool> ApplyJinjaTest(const std::string& name, const JinjaValue& input,
                                    const JinjaArguments& arguments);

}  // namespace ccoe::tokenizer

#endif  // CCOE_RUNTIME_TOKENIZER_JINJA_TESTS_H_
