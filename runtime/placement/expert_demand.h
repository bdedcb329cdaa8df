// SPDX-License-Identifier: Apache-2.0
// What FFN experts ask of the workers that hold them: memory, and work, by how often each is
// chosen.
#ifndef CCOE_RUNTIME_PLACEMENT_EXPERT_DEMAND_H_
#define CCOE_RUNTIME_PLACEMENT_EXPERT_DEMAND_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/dtype.h"
#include "runtime/model/ffn_shard.h"
#include "runtime/model/model_spec.h"

namespace ccoe::placement {

// Three matrices [hidden, intermediate] of `dtype`; 0 for a layer without FFN experts.
int64_t ExpertBytes(const model::ModelSpec& spec, int32_t layer, kernels::DType dtype);

// Experts by their size, as experts of different layers may differ.
struct ShardSize {
  std::map<int64_t, int64_t> experts_of_bytes;  // bytes of one expert -> how many

  int64_t bytes() const;
  // "96 x 131072 + 16 x 65536 = 13631488 bytes".
  std::string ToString() const;
};

// `shard` lies within `spec` (FfnShard::CheckWithin).
ShardSize SizeOf(const model::ModelSpec& spec, const model::FfnShard& shard, kernels::DType dtype);

// The element type of a checkpoint's FFN experts: of its first expert's tensor where the weights
// are there, else what config.json says ("torch_dtype" or "dtype"), else f32. INVALID_ARGUMENT for
// a type that matrices cannot have.
absl::StatusOr<kernels::DType> ExpertDType(const model::ModelSpec& spec, const std::string& folder);

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

#endif  // CCOE_RUNTIME_PLACEMENT_EXPERT_DEMAND_H_
