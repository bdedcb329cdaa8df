// What a query must be like to be let in: pure checks, made on the caller's thread.
#ifndef CCOE_RUNTIME_ENGINE_ADMISSION_H_
#define CCOE_RUNTIME_ENGINE_ADMISSION_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/engine/directory.h"
#include "runtime/engine/request.h"
#include "runtime/model/model_spec.h"

namespace ccoe::engine {

struct AdmissionLimits {
  int64_t vocab_size = 0;
  int64_t context_tokens = 0;     // of the model
  int64_t kv_tokens = 0;          // a sequence can hold at most, on the backbone
  int32_t layer_count = 0;        // of the model
  model::LayerRange held_layers;  // on the backbone
  MoePolicy moe_policy;
  // For queries with a MoeControl; null: a model without MoE layers. shared_ptr: limits are copied.
  std::shared_ptr<const model::ModelSpec> spec;
};

//   INVALID_ARGUMENT     sampling values, an empty prompt, an id outside the vocabulary, a prompt
//                        that fills the context; a MoeControl as CheckMoeControl
//   PERMISSION_DENIED    a MoeControl beyond the policy
//   RESOURCE_EXHAUSTED   a prompt that the KV cache can never hold
absl::Status CheckQuery(const EngineRequest& query, const AdmissionLimits& limits);

// The tokens a checked query may generate: its max_tokens cut to what the context and the KV
// caches, here and at its expert (null: none), leave. 0: it scores alone. RESOURCE_EXHAUSTED where
// the expert's cache can never hold the prompt.
absl::StatusOr<int64_t> TokensToGenerate(const EngineRequest& query, const ExpertBinding* binding,
                                         const AdmissionLimits& limits);

// FAILED_PRECONDITION where the backbone lacks layers that a query with this expert (null: without
// one) runs on it. INTERNAL for a binding without a link or with an absurd layer range.
absl::Status CheckLayers(const ExpertBinding* binding, const AdmissionLimits& limits);

// INVALID_ARGUMENT where `control` (may be null) names a layer that the expert (null: none) takes
// the place of: its gates are not the model's.
absl::Status CheckMoeLayers(const MoeControl* control, const ExpertBinding* binding);

// The ids that end the query's answer: its own, and the model's unless it ignores them.
std::vector<int32_t> StopIds(const SamplingParams& sampling, const std::vector<int32_t>& eos_ids);

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_ADMISSION_H_
