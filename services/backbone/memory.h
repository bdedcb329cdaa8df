// What a backbone worker will take of its device's memory.
#ifndef CCOE_SERVICES_BACKBONE_MEMORY_H_
#define CCOE_SERVICES_BACKBONE_MEMORY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/engine/engine_options.h"
#include "runtime/model/ffn_shard.h"
#include "runtime/model/memory_plan.h"
#include "runtime/model/weights.h"

namespace ccoe::services {

// Counts what LoadBackbone and LoadExpertHeads of the same arguments take for `target` (no tensor
// is read) and what an engine with `engine` takes: made over a device that counts, as they are made
// over the target. Empty where the target does not upload: the CPU's memory is not planned.
absl::StatusOr<model::MemoryPlan> PlanBackboneMemory(const std::string& folder, int32_t layers,
                                                     const std::optional<model::FfnShard>& experts,
                                                     const std::vector<std::string>& bundle_folders,
                                                     const engine::EngineOptions& engine,
                                                     const model::WeightTarget& target);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_BACKBONE_MEMORY_H_
