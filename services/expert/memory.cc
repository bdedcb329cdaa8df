#include "services/expert/memory.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/decoder.h"
#include "runtime/model/kv_storage.h"
#include "runtime/model/moe.h"
#include "runtime/model/pass_memory.h"

namespace ccoe::services {
namespace {

// As in services/backbone/memory.cc: what a GPU's ops take for themselves.
constexpr int64_t kOpsBytes = int64_t{128} << 20;

model::WeightTarget Counted(model::CountingDevice& counting, model::WeightTarget target) {
  target.device = &counting;
  target.fill = false;
  return target;
}

}  // namespace

absl::StatusOr<model::MemoryPlan> PlanLayerExpertMemory(const model::ModelSpec& spec,
                                                        const experts::Bundle& bundle,
                                                        const experts::ExpertRunnerOptions& runner,
                                                        bool first,
                                                        const model::WeightTarget& target) {
  model::MemoryPlan plan;
  if (!target.uploads()) return plan;
  model::CountingDevice counting;
  const model::LayerRange layers = bundle.manifest.layers;
  const auto weights = model::Weights::On(bundle.weights, Counted(counting, target));
  CCOE_RETURN_IF_ERROR(model::Decoder::Create(spec, layers, weights).status());
  plan.Add(absl::StrCat("weights of ", bundle.manifest.expert.ToString()),
           counting.counted_bytes());
  plan.Add(absl::StrCat("KV cache of ", runner.kv_tokens, " tokens"),
           runner.kv_tokens * model::KvStorage::BytesPerToken(spec, layers, runner.kv_dtype));
  if (first) plan.Add("buffers", kOpsBytes + model::PassBytes(spec, runner.max_batch_rows));
  return plan;
}

absl::StatusOr<model::MemoryPlan> PlanFfnShardMemory(
    const model::ModelSpec& spec, const model::FfnShard& shard,
    const std::shared_ptr<const model::Weights>& weights, int64_t max_pairs,
    const model::WeightTarget& target) {
  model::MemoryPlan plan;
  if (!target.uploads()) return plan;
  CCOE_RETURN_IF_ERROR(shard.CheckWithin(spec));
  model::CountingDevice counting;
  const auto counted = model::Weights::On(weights, Counted(counting, target));
  int64_t width = 0;
  for (const auto& [layer, held] : shard.layers()) {
    width = std::max(width, spec.layers[static_cast<size_t>(layer)].ffn.moe.intermediate);
    for (const int32_t expert : held) {
      CCOE_RETURN_IF_ERROR(model::BindFfnExpert(spec, layer, expert, *counted).status());
    }
  }
  plan.Add("weights of FFN experts", counting.counted_bytes());
  // Rows, inputs, contributions and sums; gate and up; grown by doubling.
  const int64_t values = max_pairs * (4 * spec.hidden_size + 2 * width);
  plan.Add("buffers", kOpsBytes + 2 * values * static_cast<int64_t>(sizeof(float)));
  return plan;
}

}  // namespace ccoe::services
