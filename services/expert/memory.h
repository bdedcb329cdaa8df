// What experts will take of a device's memory: they are made over a device that counts, as they
// will be made over the target. Nothing is read; plans are empty where the target does not upload.
#ifndef CCOE_SERVICES_EXPERT_MEMORY_H_
#define CCOE_SERVICES_EXPERT_MEMORY_H_

#include "absl/status/statusor.h"
#include "runtime/experts/bundle.h"
#include "runtime/experts/pass_memory.h"
#include "runtime/model/ffn_shard.h"
#include "runtime/model/memory_plan.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::services {

// Of a host of units without any.
absl::StatusOr<model::MemoryPlan> PlanPasses(const model::ModelSpec& spec,
                                             const experts::UnitHostOptions& host,
                                             const model::WeightTarget& target);

// Of one more layer expert on a host with `host`.
absl::StatusOr<model::MemoryPlan> PlanLayerExpertMemory(const model::ModelSpec& spec,
                                                        const experts::Bundle& bundle,
                                                        const experts::UnitHostOptions& host,
                                                        const model::WeightTarget& target);

// Of more FFN experts.
absl::StatusOr<model::MemoryPlan> PlanFfnShardMemory(
    const model::ModelSpec& spec, const model::FfnShard& shard,
    const std::shared_ptr<const model::Weights>& weights, const model::WeightTarget& target);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_EXPERT_MEMORY_H_
