// A model folder to the parts the engine runs.
#ifndef CCOE_SERVICES_BACKBONE_LOAD_BACKBONE_H_
#define CCOE_SERVICES_BACKBONE_LOAD_BACKBONE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/engine/engine.h"
#include "runtime/model/ffn_shard.h"
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

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_BACKBONE_LOAD_BACKBONE_H_
