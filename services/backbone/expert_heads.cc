#include "services/backbone/expert_heads.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "runtime/base/status_macros.h"
#include "runtime/experts/bundle.h"

namespace ccoe::services {

absl::StatusOr<std::map<ExpertRef, std::shared_ptr<const model::LmHead>>> LoadExpertHeads(
    const LoadedBackbone& base, const std::vector<std::string>& bundle_folders) {
  std::map<ExpertRef, std::shared_ptr<const model::LmHead>> heads;
  const model::ModelSpec& spec = base.model.spec;
  BaseFingerprints fingerprints(&spec, base.weights.get());
  for (const std::string& folder : bundle_folders) {
    CCOE_ASSIGN_OR_RETURN(const experts::BundleManifest manifest, experts::ReadManifest(folder));
    if (!manifest.owns_norm && !manifest.owns_head) continue;
    CCOE_RETURN_IF_ERROR(experts::CheckFits(manifest, spec, manifest.base_fingerprint));
    CCOE_ASSIGN_OR_RETURN(const std::string fingerprint, fingerprints.Below(manifest.layers.first));
    CCOE_ASSIGN_OR_RETURN(const experts::Bundle bundle,
                          experts::OpenBundle(folder, spec, fingerprint));
    absl::StatusOr<std::unique_ptr<model::LmHead>> head =
        model::LmHead::Create(spec, base.weights, model::Weights::On(bundle.weights, base.target));
    if (!head.ok()) return Annotate(head.status(), folder);
    heads[manifest.expert] = *std::move(head);
  }
  return heads;
}

absl::StatusOr<int32_t> LayersBelowExperts(const model::ModelSpec& spec,
                                           const std::vector<std::string>& bundle_folders) {
  if (bundle_folders.empty()) {
    return absl::InvalidArgumentError(
        "leaving out the base's own top layers needs expert bundles to answer: found none");
  }
  int32_t layers = 0;
  for (const std::string& folder : bundle_folders) {
    CCOE_ASSIGN_OR_RETURN(const experts::BundleManifest manifest, experts::ReadManifest(folder));
    CCOE_RETURN_IF_ERROR(experts::CheckFits(manifest, spec, manifest.base_fingerprint));
    const bool suffix = manifest.layers.last == spec.layer_count();
    layers = std::max(layers, suffix ? manifest.layers.first : spec.layer_count());
  }
  return layers;
}

}  // namespace ccoe::services
