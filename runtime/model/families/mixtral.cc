#include <cstdint>

#include "runtime/base/status_macros.h"
#include "runtime/model/families/dense_config.h"
#include "runtime/model/families/families.h"
#include "runtime/model/families/limits.h"
#include "runtime/model/families/moe_config.h"

namespace ccoe::model {

// Experts in every layer, chosen by softmax and always renormalised. Unlike Mistral's, a window
// that the config does not name is none.
absl::StatusOr<ModelSpec> ParseMixtral(const ConfigReader& config) {
  DenseDefaults defaults;
  defaults.max_positions = 131072;
  defaults.norm_eps = 1e-5;
  defaults.rope_theta = 1e6;
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, ParseDense(config, defaults));
  spec.family = "mixtral";
  TensorNames& names = spec.names;
  names.router = "block_sparse_moe.gate";
  names.expert_prefix = "block_sparse_moe.experts.";
  names.expert_gate = "w1";
  names.expert_up = "w3";
  names.expert_down = "w2";
  CCOE_ASSIGN_OR_RETURN(MoeSpec moe, ParseMoe(config, "num_local_experts", "intermediate_size"));
  moe.gate.renormalize = true;
  CCOE_ASSIGN_OR_RETURN(const int64_t window, config.IntOr("sliding_window", 1, kMaxPositions, 0));
  for (LayerSpec& layer : spec.layers) {
    layer.attention.sliding_window = window;
    SetExperts(moe, layer);
  }
  return spec;
}

}  // namespace ccoe::model
