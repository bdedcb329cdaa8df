#include "services/expert/memory.h"

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/experts/pass_memory.h"
#include "runtime/model/decoder.h"
#include "runtime/model/ffn.h"
#include "runtime/model/kv_cache.h"
#include "runtime/model/memory_plan.h"

namespace ccoe::services {
namespace {

model::WeightTarget Counted(model::CountingDevice& counting, model::WeightTarget target) {
  target.device = &counting;
  target.fill = false;
  return target;
}

}  // namespace

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
