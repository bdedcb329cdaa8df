// SPDX-License-Identifier: Apache-2.0
// JSON from outside: parsed without exceptions, with bounded nesting and no key twice in an object.
#ifndef CCOE_RUNTIME_BASE_JSON_H_
#define CCOE_RUNTIME_BASE_JSON_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace ccoe {

// INVALID_ARGUMENT beginning with `where` (a file, a line): a syntax error with its position,
// invalid UTF-8, nesting deeper than 64, a key that stands twice in one object.
absl::StatusOr<nlohmann::json> ParseJson(absl::string_view text, absl::string_view where);

// ParseJson of a whole file of at most `max_bytes`.
absl::StatusOr<nlohmann::json> ReadJsonFile(const std::string& path, int64_t max_bytes);

}  // namespace ccoe

#endif  // CCOE_RUNTIME_BASE_JSON_H_
