// SPDX-License-Identifier: Apache-2.0
// What an expert worker loads: bundles, each checked against the base, and what experts will take
// of a device's memory.
#ifndef CCOE_SERVICES_EXPERT_LOAD_EXPERTS_H_
#define CCOE_SERVICES_EXPERT_LOAD_EXPERTS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ccoe/v1/control.pb.h"
#include "runtime/experts/bundle.h"
#include "runtime/experts/pass_memory.h"
#include "runtime/model/ffn_shard.h"
#include "runtime/model/memory_plan.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::services {

// The folders below `folder` that hold a bundle, sorted by name; `folder` itself where it is one.
// NOT_FOUND where there is none.
absl::StatusOr<std::vector<std::string>> FindBundles(const std::string& folder);

// Opens the bundles one after the other and hands each to `use`. Where `base_folder` has weights,
// each bundle's fingerprint is checked against them, which reads them up to the split once a split;
// without weights the manifest is believed here, and the backbone worker, which has them, compares
// before it sends a row. Errors name the bundle.
absl::Status OpenBundles(const model::ModelSpec& spec, const std::string& base_folder,
                         const std::vector<std::string>& bundle_folders,
                         const std::function<absl::Status(const experts::Bundle&)>& use);

// What a worker reports of a bundle it holds. `weight_bytes` as loaded.
v1::HeldExpert HeldExpertOf(const experts::BundleManifest& manifest, int64_t weight_bytes);

// Memory plans: experts are made over a device that counts, as they will be made over the target.
// Nothing is read; plans are empty where the target does not upload. This one is of a host of units
// without any.
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

#endif  // CCOE_SERVICES_EXPERT_LOAD_EXPERTS_H_
