// What experts will take of a device's memory.
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

// Of one more layer expert on a runner with `runner`; the buffers count with the `first`. Both:
// nothing is read; empty where the target does not upload.
absl::StatusOr<model::MemoryPlan> PlanLayerExpertMemory(const model::ModelSpec& spec,
                                                        const experts::Bundle& bundle,
                                                        const experts::ExpertRunnerOptions& runner,
                                                        bool first,
                                                        const model::WeightTarget& target);

// Of FFN experts, with the buffers of passes of `max_pairs` (row, expert) pairs.
absl::StatusOr<model::MemoryPlan> PlanFfnShardMemory(
    const model::ModelSpec& spec, const model::FfnShard& shard,
    const std::shared_ptr<const model::Weights>& weights, int64_t max_pairs,
    const model::WeightTarget& target);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_EXPERT_MEMORY_H_
