#include "services/backbone/load_backbone.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/experts/bundle.h"
#include "runtime/model/families/hf_config.h"

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

}  // namespace ccoe::services
