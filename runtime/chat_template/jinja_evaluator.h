// SPDX-License-Identifier: Apache-2.0
// Runs the syntax tree of a template.
#ifndef CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_EVALUATOR_H_
#define CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_EVALUATOR_H_

#include <cstdint>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "runtime/chat_template/jinja_parser.h"
#include "runtime/chat_template/jinja_value.h"

namespace ccoe::chat_template {

struct JinjaLimits {
  int64_t max_steps = 4'000'000;       // expressions and statements run, and 64 bytes made
  size_t max_output_bytes = 16 << 20;  // of the text that is rendered
};

using JinjaVariables = absl::flat_hash_map<std::string, JinjaValue>;

// The text that `body` prints. INVALID_ARGUMENT names the line of what cannot be evaluated;
// RESOURCE_EXHAUSTED if a limit is reached; UNIMPLEMENTED for functions and methods that are not
// known here.
absl::StatusOr<std::string> EvaluateJinja(const JinjaStatement::Body& body,
                                          const JinjaVariables& variables,
                                          const JinjaLimits& limits);

}  // namespace ccoe::chat_template

#endif  // CCOE_RUNTIME_CHAT_TEMPLATE_JINJA_EVALUATOR_H_
