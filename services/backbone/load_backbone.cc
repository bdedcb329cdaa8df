// SPDX-License-Identifier: Apache-2.0
#include "services/backbone/load_backbone.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/engine/model_runner.h"
#include "runtime/experts/bundle.h"
#include "runtime/model/families/hf_config.h"
#include "runtime/model/kv_cache.h"
#include "runtime/model/memory_plan.h"

namespace ccoe::services {

absl::StatusOr<LoadedBackbone> LoadBackbone(const std::string& folder, int32_t layers,
                                            const std::optional<model::FfnShard>& experts,
                                            const model::WeightTarget& target) {
  LoadedBackbone loaded;
  loaded.target = target;
  engine::BackboneModel& model = loaded.model;
  CCOE_ASSIGN_OR_RETURN(model.spec, model::LoadModelSpec(folder));
  const int32_t all = model.spec.layer_count();
  if (layers == 0) layers = all;
  if (layers < 1 || layers > all) {
    return absl::InvalidArgumentError(
        absl::StrCat(folder, ": layers to hold: expected 1 to ", all, ", found ", layers));
  }
  CCOE_ASSIGN_OR_RETURN(auto mapped, model::Weights::Open(folder));
  loaded.weights = model::Weights::On(std::move(mapped), target);
  CCOE_ASSIGN_OR_RETURN(model.embedding, model::TokenEmbedding::Create(model.spec, loaded.weights));
  CCOE_ASSIGN_OR_RETURN(model.decoder,
                        model::Decoder::Create(model.spec, {0, layers}, loaded.weights,
                                               experts.value_or(model::FfnShard::All(model.spec))));
  CCOE_ASSIGN_OR_RETURN(model.head, model::LmHead::Create(model.spec, loaded.weights));
  return loaded;
}

absl::StatusOr<std::string> BaseFingerprints::Below(int32_t first) {
  if (auto it = known_.find(first); it != known_.end()) return it->second;
  CCOE_ASSIGN_OR_RETURN(std::string digest, experts::Fingerprint(*spec_, *weights_, first));
  return known_[first] = std::move(digest);
}

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

absl::StatusOr<model::MemoryPlan> PlanBackboneMemory(const std::string& folder, int32_t layers,
                                                     const std::optional<model::FfnShard>& experts,
                                                     const std::vector<std::string>& bundle_folders,
                                                     const engine::EngineOptions& engine,
                                                     const model::WeightTarget& target) {
  model::MemoryPlan plan;
  if (!target.uploads()) return plan;
  model::CountingDevice counting;
  model::WeightTarget counted = target;
  counted.device = &counting;
  counted.fill = false;
  CCOE_ASSIGN_OR_RETURN(const LoadedBackbone loaded,
                        LoadBackbone(folder, layers, experts, counted));
  CCOE_RETURN_IF_ERROR(LoadExpertHeads(loaded, bundle_folders).status());
  const int64_t weight_bytes = counting.counted_bytes();
  CCOE_RETURN_IF_ERROR(
      engine::ModelRunner::Create(loaded.model, model::MakeDryRunOps(&counting), engine).status());
  const int64_t kv_tokens = engine.kv_tokens / engine.page_tokens * engine.page_tokens;
  const int64_t kv_bytes =
      kv_tokens * model::KvStorage::BytesPerToken(loaded.model.spec, loaded.model.decoder->layers(),
                                                  engine.kv_dtype);
  plan.Add("weights", weight_bytes);
  plan.Add(absl::StrCat("KV cache of ", kv_tokens, " tokens"), kv_bytes);
  plan.Add("buffers", counting.counted_bytes() - weight_bytes - kv_bytes);
  return plan;
}

}  // namespace ccoe::services
