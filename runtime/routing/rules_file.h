// SPDX-License-Identifier: Apache-2.0
// The rules file: its text form read, every mistake in it named with its line.
#ifndef CCOE_RUNTIME_ROUTING_RULES_FILE_H_
#define CCOE_RUNTIME_ROUTING_RULES_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/base/ids.h"

namespace ccoe::routing {

// Bounds on what a rules file may hold.
inline constexpr int64_t kMaxRulesFileBytes = 4 << 20;
inline constexpr int kMaxRules = 1024;
inline constexpr int kMaxConditionsPerRule = 256;  // patterns, keywords and tenants together
inline constexpr int kMaxPatterns = 4096;          // of all rules
inline constexpr int kMaxKeywords = 16384;         // of all rules
inline constexpr size_t kMaxConditionBytes = 1024;
inline constexpr size_t kMaxRuleNameBytes = 64;
// Bytes that one compiled pattern may take.
inline constexpr int64_t kMaxPatternMemory = 1 << 20;

// One rule, checked. See RoutingRules in proto/ccoe/v1/routing.proto.
struct RuleSpec {
  std::string name;
  ExpertRef expert;  // empty: the base model's own layers
  std::vector<std::string> patterns;
  std::vector<std::string> keywords;
  std::vector<std::string> tenants;
  bool case_sensitive = false;
  int32_t priority = 0;
};

// Reads the text form of ccoe.v1.RoutingRules. The rules come back in the order they are tried.
// INVALID_ARGUMENT lists the mistakes, one a line, as "FILE:LINE:COLUMN: rule "NAME": what". `file`
// is for those messages only.
absl::StatusOr<std::vector<RuleSpec>> ParseRulesFile(absl::string_view text,
                                                     absl::string_view file);

// The pattern as it is compiled: with its rule's view of case.
std::string EffectivePattern(const std::string& pattern, bool case_sensitive);

}  // namespace ccoe::routing

#endif  // CCOE_RUNTIME_ROUTING_RULES_FILE_H_
