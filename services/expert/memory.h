// What experts will take of a device's memory: they are made over a device that counts, as they
// will be made over the target. Nothing is read; plans are empty where the target does not upload.
#ifndef CCOE_SERVICES_EXPERT_MEMORY_H_
#define CCOE_SERVICES_EXPERT_MEMORY_H_

#include "absl/status/statusor.h"
#include "runtime/experts/bundle.h"
#include "runtime/experts/expert_runner.h"
#include "runtime/model/device_tensors.h"
#include "runtime/model/ffn_shard.h"
#include "runtime/model/memory_plan.h"
#include "runtime/model/model_spec.h"

namespace ccoe::services {

// Of an expert runner without experts, whose passes have up to `max_rows` rows.
absl::StatusOr<model::MemoryPlan> PlanExpertPass(const model::ModelSpec& spec, int64_t max_rows,
                                                 const model::WeightTarget& target);

// Of one more layer expert on a runner with `runner`.
absl::StatusOr<model::MemoryPlan> PlanLayerExpertMemory(const model::ModelSpec& spec,
                                                        const experts::Bundle& bundle,
                                                        const experts::ExpertRunnerOptions& runner,
                                                        const model::WeightTarget& target);

// Of an FFN runner without experts, whose passes have up to `max_pairs` (row, expert) pairs.
absl::StatusOr<model::MemoryPlan> PlanFfnPass(const model::ModelSpec& spec, int64_t max_pairs,
                                              const model::WeightTarget& target);

// Of more FFN experts.
absl::StatusOr<model::MemoryPlan> PlanFfnShardMemory(
    const model::ModelSpec& spec, const model::FfnShard& shard,
    const std::shared_ptr<const model::Weights>& weights, const model::WeightTarget& target);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_EXPERT_MEMORY_H_
