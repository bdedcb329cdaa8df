// SPDX-License-Identifier: Apache-2.0
// The filters of a template (x | trim, x | tojson(indent=2), ...) and its tests (x is defined, x is
// string, ...).
#ifndef CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_FILTERS_H_
#define CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_FILTERS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/chat_template/jinja_functions.h"

namespace ccoe::chat_template {

bool IsJinjaFilter(absl::string_view name);

// INVALID_ARGUMENT for an input or arguments that the filter does not take.
absl::StatusOr<JinjaValue> ApplyJinjaFilter(const std::string& name, const JinjaValue& input,
                                            const JinjaArguments& arguments, JinjaBudget& budget);

bool IsJinjaTest(absl::string_view name);

// INVALID_ARGUMENT for arguments that the test does not take.
absl::StatusOr<bool> ApplyJinjaTest(const std::string& name, const JinjaValue& input,
                                    const JinjaArguments& arguments);

}  // namespace ccoe::chat_template

#endif  // CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_FILTERS_H_
