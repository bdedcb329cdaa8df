// SPDX-License-Identifier: Apache-2.0
// The gate by rules: which expert a text goes to, and why.
#ifndef CCOE_RUNTIME_ROUTING_RULES_H_
#define CCOE_RUNTIME_ROUTING_RULES_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/base/ids.h"

namespace ccoe::routing {

// A rule that matched.
struct RuleMatch {
  std::string rule;         // its name
  ExpertRef expert;         // empty: the base model's own layers; version 0: the newest
  std::string explanation;  // for people: rule "math-words": keyword "how many"
};

// Longer texts are looked at up to here, in bytes.
inline constexpr size_t kMaxClassifiedBytes = 64 << 10;

// Immutable; thread-safe. All patterns are matched in one pass over the text, without backtracking
// (RE2), so time is linear in the text whatever the patterns are.
class Rules {
 public:
  // No rules: nothing matches.
  static std::unique_ptr<const Rules> None();

  // From the text form of ccoe.v1.RoutingRules. INVALID_ARGUMENT lists the mistakes as
  // "FILE:LINE:COLUMN: rule ...: ...".
  static absl::StatusOr<std::unique_ptr<const Rules>> Parse(absl::string_view text,
                                                            absl::string_view file);
  // From a file; also NOT_FOUND or UNAVAILABLE where it cannot be read.
  static absl::StatusOr<std::unique_ptr<const Rules>> Load(const std::string& path);

  virtual ~Rules() = default;

  // The first rule, by priority and then by the file's order, all of whose kinds of condition hold.
  // nullopt: none.
  virtual std::optional<RuleMatch> Classify(absl::string_view text,
                                            absl::string_view tenant) const = 0;

  virtual size_t size() const = 0;
  // What the rules can choose, each once, sorted; the base is left out.
  virtual std::vector<ExpertRef> Experts() const = 0;
};

}  // namespace ccoe::routing

#endif  // CCOE_RUNTIME_ROUTING_RULES_H_
