#include "services/backbone/memory.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/kv_storage.h"
#include "runtime/model/pass_memory.h"
#include "services/backbone/expert_heads.h"
#include "services/backbone/load_backbone.h"

namespace ccoe::services {
namespace {

// What the ops of a GPU take for themselves (see kernels::CudaOptions), with a margin for the
// allocator's rounding.
constexpr int64_t kOpsBytes = int64_t{128} << 20;

// Of an engine: a pass, what branches keep while they are suspended, logits.
int64_t BufferBytes(const model::ModelSpec& spec, const engine::EngineOptions& engine) {
  const int64_t rows = engine.max_step_tokens;
  int64_t top_k = 1;
  for (const model::LayerSpec& layer : spec.layers) {
    if (layer.ffn.is_moe()) top_k = std::max(top_k, layer.ffn.moe.gate.top_k);
  }
  const int64_t parked = (2 + top_k) * (engine.max_steps_in_flight + 1);
  const int64_t values = rows * (spec.hidden_size * (parked + 2 * top_k + 2) + spec.vocab_size);
  return kOpsBytes + model::PassBytes(spec, rows) +
         2 * values * static_cast<int64_t>(sizeof(float));
}

}  // namespace

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
  plan.Add("weights", counting.counted_bytes());
  const model::ModelSpec& spec = loaded.model.spec;
  const int64_t token_bytes =
      model::KvStorage::BytesPerToken(spec, loaded.model.decoder->layers(), engine.kv_dtype);
  plan.Add(absl::StrCat("KV cache of ", engine.kv_tokens, " tokens"),
           engine.kv_tokens * token_bytes);
  plan.Add("buffers", BufferBytes(spec, engine));
  return plan;
}

}  // namespace ccoe::services
