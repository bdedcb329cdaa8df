#include "services/backbone/memory.h"

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/engine/model_runner.h"
#include "runtime/model/kv_cache.h"
#include "runtime/model/memory_plan.h"
#include "services/backbone/expert_heads.h"
#include "services/backbone/load_backbone.h"

namespace ccoe::services {

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
