// SPDX-License-Identifier: Apache-2.0
// A model folder to the parts the engine runs, what a backbone worker takes from the experts'
// bundles, and what both will take of its device's memory.
#ifndef CCOE_SERVICES_BACKBONE_LOAD_BACKBONE_H_
#define CCOE_SERVICES_BACKBONE_LOAD_BACKBONE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/base/ids.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/engine_options.h"
#include "runtime/model/ffn_shard.h"
#include "runtime/model/head.h"
#include "runtime/model/memory_plan.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::services {

struct LoadedBackbone {
  engine::BackboneModel model;
  std::shared_ptr<const model::Weights> weights;  // as the ops read them
  model::WeightTarget target;                     // where they are
};

// Reads config.json and maps the weights. `layers`: how many of the base's layers are held, from
// the bottom; 0: all of them (fewer where the base's own top is left out, since only experts
// answer).
// `target`: where the ops read weights; by default in the mapped files.
// `experts`: the FFN experts it runs itself; the others' tensors need not be there. nullopt: all.
absl::StatusOr<LoadedBackbone> LoadBackbone(
    const std::string& folder, int32_t layers = 0,
    const std::optional<model::FfnShard>& experts = std::nullopt,
    const model::WeightTarget& target = {});

// experts::Fingerprint of one base, computed once for each split. Not thread-safe.
class BaseFingerprints {
 public:
  // Both must outlive this.
  BaseFingerprints(const model::ModelSpec* spec, const model::Weights* weights)
      : spec_(spec), weights_(weights) {}
  absl::StatusOr<std::string> Below(int32_t first);

 private:
  const model::ModelSpec* spec_;
  const model::Weights* weights_;
  std::map<int32_t, std::string> known_;
};

// The heads of those bundles that bring their own norm or LM head. Bundles without are not opened.
// Errors name the bundle.
absl::StatusOr<std::map<ExpertRef, std::shared_ptr<const model::LmHead>>> LoadExpertHeads(
    const LoadedBackbone& base, const std::vector<std::string>& bundle_folders);

// How many of the model's layers, from the bottom, a backbone worker must hold for these experts
// alone: those below every suffix expert, all where an expert is no suffix. INVALID_ARGUMENT
// without a bundle.
absl::StatusOr<int32_t> LayersBelowExperts(const model::ModelSpec& spec,
                                           const std::vector<std::string>& bundle_folders);

// Counts what LoadBackbone and LoadExpertHeads of the same arguments take for `target` (no tensor
// is read) and what an engine with `engine` takes: made over a device that counts, as they are made
// over the target. Empty where the target does not upload: the CPU's memory is not planned.
absl::StatusOr<model::MemoryPlan> PlanBackboneMemory(const std::string& folder, int32_t layers,
                                                     const std::optional<model::FfnShard>& experts,
                                                     const std::vector<std::string>& bundle_folders,
                                                     const engine::EngineOptions& engine,
                                                     const model::WeightTarget& target);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_BACKBONE_LOAD_BACKBONE_H_
