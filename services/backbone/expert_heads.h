// What a backbone worker takes from the experts' bundles.
#ifndef CCOE_SERVICES_BACKBONE_EXPERT_HEADS_H_
#define CCOE_SERVICES_BACKBONE_EXPERT_HEADS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/base/ids.h"
#include "runtime/model/head.h"
#include "runtime/model/model_spec.h"
#include "services/backbone/load_backbone.h"

namespace ccoe::services {

// The heads of those bundles that bring their own norm or LM head. Bundles without are not opened.
// Errors name the bundle.
absl::StatusOr<std::map<ExpertRef, std::shared_ptr<const model::LmHead>>> LoadExpertHeads(
    const LoadedBackbone& base, const std::vector<std::string>& bundle_folders);

// How many of the model's layers, from the bottom, a backbone worker must hold for these experts
// alone: those below every suffix expert, all where an expert is no suffix. INVALID_ARGUMENT
// without a bundle.
absl::StatusOr<int32_t> LayersBelowExperts(const model::ModelSpec& spec,
                                           const std::vector<std::string>& bundle_folders);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_BACKBONE_EXPERT_HEADS_H_
