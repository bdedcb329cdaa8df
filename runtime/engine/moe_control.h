// SPDX-License-Identifier: Apache-2.0
// What a request may ask of a model's own gates: how many experts a row activates, which it must
// not or must choose. The operator's policy says what is let through; by default nothing.
#ifndef CCOE_RUNTIME_ENGINE_MOE_CONTROL_H_
#define CCOE_RUNTIME_ENGINE_MOE_CONTROL_H_

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "runtime/model/ffn.h"
#include "runtime/model/model_spec.h"

namespace ccoe::engine {

// Of one layer, or of all.
struct LayerMoeControl {
  int32_t active_experts = 0;           // a row chooses, 1 to the model's top_k; 0: as the model
  std::vector<int32_t> masked, forced;  // expert ids, in any order; a repeated one counts once

  bool empty() const { return active_experts == 0 && masked.empty() && forced.empty(); }
};

// A request's control. At a layer that is in `layers`, its number of active experts comes before
// that of all layers, and masked and forced experts add up. Layers that a layer expert takes the
// place of follow that expert's own gates.
struct MoeControl {
  LayerMoeControl all_layers;                 // every MoE layer
  std::map<int32_t, LayerMoeControl> layers;  // by index in the model

  bool empty() const;
};

// The operator's bounds on every request's control.
struct MoePolicy {
  bool allow_active_experts = false;
  int32_t min_active_experts = 1;  // with allow_active_experts
  int32_t max_active_experts = INT32_MAX;
  bool allow_masks = false;
  bool allow_forced = false;
  int32_t max_entries = 4096;  // numbers of active experts, masked and forced experts together
};

// INVALID_ARGUMENT for bounds that no number lies within.
absl::Status Validate(const MoePolicy& policy);

//   INVALID_ARGUMENT   too many entries; a model without MoE layers, a layer that is not one; an
//                      expert or a number of active experts that the layer has not; an expert both
//                      masked and forced; more forced than active experts; fewer unmasked ones than
//                      active ones (in the groups that a row may be confined to)
//   PERMISSION_DENIED  what the policy does not allow
// Messages name the layer, the expert and the bounds.
absl::Status CheckMoeControl(const MoeControl& control, const MoePolicy& policy,
                             const model::ModelSpec& spec);

// Rows of one query that follow one another in a pass.
struct RowsOfQuery {
  const MoeControl* control = nullptr;  // passed CheckMoeControl; null: none
  int64_t rows = 0;
};

// What the gate of MoE layer `layer`, of form `spec`, must be told about the rows of a pass. None,
// at the cost of a look at each query, where no control of these concerns the layer.
std::optional<model::GateSteering> SteeringFor(int32_t layer, absl::Span<const RowsOfQuery> rows,
                                               const model::MoeSpec& spec);

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_MOE_CONTROL_H_
