// SPDX-License-Identifier: Apache-2.0
// Rules files, and what comes of them. Input: the file, a zero byte, a text to route, a zero byte,
// its tenant.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "runtime/base/check.h"
#include "runtime/base/ids.h"
#include "runtime/routing/rules.h"
#include "tests/fuzz/fuzz_input.h"

namespace ccoe {

void RouteByRules(FuzzInput input) {
  const auto rules = routing::Rules::Parse(input.Part(), "rules");
  if (!rules.ok()) {
    CCOE_CHECK(rules.status().code() == absl::StatusCode::kInvalidArgument);
    CCOE_CHECK(rules.status().message().find("rules:") == 0);  // names the place
    return;
  }
  CCOE_CHECK((*rules)->size() > 0);
  const absl::string_view text = input.Part();
  const absl::string_view tenant = input.Part();
  const auto match = (*rules)->Classify(text, tenant);
  if (!match.has_value()) return;
  CCOE_CHECK(!match->rule.empty() && !match->explanation.empty());
  const std::vector<ExpertRef> experts = (*rules)->Experts();
  CCOE_CHECK(match->expert.empty() ||
             std::find(experts.begin(), experts.end(), match->expert) != experts.end());
}

}  // namespace ccoe

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ccoe::RouteByRules({data, size});
  return 0;
}
