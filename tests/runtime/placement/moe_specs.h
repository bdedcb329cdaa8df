// SPDX-License-Identifier: Apache-2.0
// Mixture-of-experts models as placements see them: layers, experts, sizes.
#ifndef CCOE_TESTS_RUNTIME_PLACEMENT_MOE_SPECS_H_
#define CCOE_TESTS_RUNTIME_PLACEMENT_MOE_SPECS_H_

#include <cstdint>

#include "runtime/model/model_spec.h"

namespace ccoe::placement {

// `dense` dense layers, then `moe` layers of `experts` experts of 3 x 64 x `intermediate` weights.
inline model::ModelSpec MoeModel(int dense, int moe, int64_t experts, int64_t intermediate = 80) {
  model::ModelSpec spec;
  spec.hidden_size = 64;
  for (int i = 0; i < dense + moe; ++i) {
    model::LayerSpec& layer = spec.layers.emplace_back();
    if (i < dense) continue;
    layer.ffn.kind = model::FfnKind::kMoe;
    layer.ffn.moe.experts = experts;
    layer.ffn.moe.intermediate = intermediate;
    layer.ffn.moe.gate.top_k = 2;
  }
  return spec;
}

// Of one expert of MoeModel, in bf16.
inline constexpr int64_t kExpertBytes = 3 * 64 * 80 * 2;

}  // namespace ccoe::placement

#endif  // CCOE_TESTS_RUNTIME_PLACEMENT_MOE_SPECS_H_
