// SPDX-License-Identifier: Apache-2.0
#include "services/expert/load_experts.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "runtime/base/file.h"
#include "runtime/base/status_macros.h"
#include "runtime/experts/pass_memory.h"
#include "runtime/model/decoder.h"
#include "runtime/model/ffn.h"
#include "runtime/model/kv_cache.h"
#include "runtime/model/memory_plan.h"
#include "runtime/model/weights.h"
#include "services/backbone/load_backbone.h"
#include "services/backbone/proto_conversions.h"

namespace ccoe::services {
namespace {

bool IsBundle(const std::string& folder) { return FileExists(folder + "/expert.json"); }

bool HasWeights(const std::string& folder) {
  return FileExists(folder + "/model.safetensors") ||
         FileExists(folder + "/model.safetensors.index.json");
}

model::WeightTarget Counted(model::CountingDevice& counting, model::WeightTarget target) {
  target.device = &counting;
  target.fill = false;
  return target;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> FindBundles(const std::string& folder) {
  if (IsBundle(folder)) return std::vector<std::string>{folder};
  std::vector<std::string> bundles;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    if (IsBundle(it->path().string())) bundles.push_back(it->path().string());
  }
  if (error) return absl::NotFoundError(absl::StrCat(folder, ": ", error.message()));
  if (bundles.empty()) {
    return absl::NotFoundError(
        absl::StrCat(folder, ": expected expert bundles (folders with expert.json), found none"));
  }
  std::sort(bundles.begin(), bundles.end());
  return bundles;
}

absl::Status OpenBundles(const model::ModelSpec& spec, const std::string& base_folder,
                         const std::vector<std::string>& bundle_folders,
                         const std::function<absl::Status(const experts::Bundle&)>& use) {
  std::shared_ptr<const model::Weights> base;
  std::optional<BaseFingerprints> fingerprints;
  if (HasWeights(base_folder)) {
    CCOE_ASSIGN_OR_RETURN(base, model::Weights::Open(base_folder));
    fingerprints.emplace(&spec, base.get());
  }
  for (const std::string& folder : bundle_folders) {
    CCOE_ASSIGN_OR_RETURN(const experts::BundleManifest manifest, experts::ReadManifest(folder));
    std::string fingerprint = manifest.base_fingerprint;
    if (fingerprints.has_value() && manifest.layers.first < spec.layer_count()) {
      CCOE_ASSIGN_OR_RETURN(fingerprint, fingerprints->Below(manifest.layers.first));
    }
    CCOE_ASSIGN_OR_RETURN(const experts::Bundle bundle,
                          experts::OpenBundle(folder, spec, fingerprint));
    CCOE_RETURN_IF_ERROR_IN(use(bundle), folder);
  }
  return absl::OkStatus();
}

v1::HeldExpert HeldExpertOf(const experts::BundleManifest& manifest, int64_t weight_bytes) {
  v1::HeldExpert held;
  v1::ExpertInfo* info = held.mutable_info();
  *info->mutable_expert() = ExpertToProto(manifest.expert);
  info->set_domain(manifest.domain);
  info->set_description(manifest.description);
  info->set_first_layer(manifest.layers.first);
  info->set_last_layer(manifest.layers.last);
  info->set_weight_bytes(weight_bytes);
  for (const std::string& query : manifest.example_queries) info->add_example_queries(query);
  info->set_owns_head(manifest.owns_norm || manifest.owns_head);
  held.set_base_fingerprint(manifest.base_fingerprint);
  held.set_weights_digest(manifest.weights_sha256);
  return held;
}

absl::StatusOr<model::MemoryPlan> PlanPasses(const model::ModelSpec& spec,
                                             const experts::UnitHostOptions& host,
                                             const model::WeightTarget& target) {
  model::MemoryPlan plan;
  if (!target.uploads()) return plan;
  model::CountingDevice counting;
  CCOE_RETURN_IF_ERROR(experts::PassMemory::Create(spec, experts::PassLimitsOf(host),
                                                   model::MakeDryRunOps(&counting))
                           .status());
  plan.Add("buffers", counting.counted_bytes());
  return plan;
}

absl::StatusOr<model::MemoryPlan> PlanLayerExpertMemory(const model::ModelSpec& spec,
                                                        const experts::Bundle& bundle,
                                                        const experts::UnitHostOptions& host,
                                                        const model::WeightTarget& target) {
  model::MemoryPlan plan;
  if (!target.uploads()) return plan;
  model::CountingDevice counting;
  const model::LayerRange layers = bundle.manifest.layers;
  const auto weights = model::Weights::On(bundle.weights, Counted(counting, target));
  CCOE_RETURN_IF_ERROR(model::Decoder::Create(spec, layers, weights).status());
  const int64_t weight_bytes = counting.counted_bytes();
  CCOE_RETURN_IF_ERROR(
      model::KvStorage::Create(&counting, spec, experts::KvOptionsOf(host, layers)).status());
  plan.Add(absl::StrCat("weights of ", bundle.manifest.expert.ToString()), weight_bytes);
  plan.Add(absl::StrCat("KV cache of ", host.kv_tokens, " tokens"),
           counting.counted_bytes() - weight_bytes);
  return plan;
}

absl::StatusOr<model::MemoryPlan> PlanFfnShardMemory(
    const model::ModelSpec& spec, const model::FfnShard& shard,
    const std::shared_ptr<const model::Weights>& weights, const model::WeightTarget& target) {
  model::MemoryPlan plan;
  if (!target.uploads()) return plan;
  CCOE_RETURN_IF_ERROR(shard.CheckWithin(spec));
  model::CountingDevice counting;
  const auto counted = model::Weights::On(weights, Counted(counting, target));
  for (const auto& [layer, held] : shard.layers()) {
    for (const int32_t expert : held) {
      CCOE_RETURN_IF_ERROR(model::BindFfnExpert(spec, layer, expert, *counted).status());
    }
  }
  plan.Add("weights of FFN experts", counting.counted_bytes());
  return plan;
}

}  // namespace ccoe::services
