// How often each FFN expert is chosen, for planning.
#ifndef CCOE_RUNTIME_PLACEMENT_EXPERT_LOADS_H_
#define CCOE_RUNTIME_PLACEMENT_EXPERT_LOADS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/model/model_spec.h"

namespace ccoe::placement {

// Tokens by layer, then expert. A layer that is missing, or has no tokens at all, is taken as even.
struct ExpertLoads {
  std::map<int32_t, std::vector<double>> tokens;

  // Shares of a layer's tokens, summing to 1. `layer` is a MoE layer of `spec`, which the loads fit
  // (CheckLoads).
  std::vector<double> Shares(const model::ModelSpec& spec, int32_t layer) const;
};

// INVALID_ARGUMENT: a layer without FFN experts, another number of experts, a count that is
// negative or not finite.
absl::Status CheckLoads(const ExpertLoads& loads, const model::ModelSpec& spec);

// Reads what `ccoe moe stats --json` prints: {"layers": [{"layer": 3, "tokens": [17, 0, ...]}]};
// other keys are passed over. INVALID_ARGUMENT begins with `where`.
absl::StatusOr<ExpertLoads> ParseLoads(absl::string_view json, absl::string_view where);
absl::StatusOr<ExpertLoads> ReadLoads(const std::string& path);

}  // namespace ccoe::placement

#endif  // CCOE_RUNTIME_PLACEMENT_EXPERT_LOADS_H_
