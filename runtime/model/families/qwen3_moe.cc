#include <cstdint>

#include "runtime/base/status_macros.h"
#include "runtime/model/families/dense_config.h"
#include "runtime/model/families/families.h"
#include "runtime/model/families/limits.h"
#include "runtime/model/families/moe_config.h"

namespace ccoe::model {

// q and k are normed head by head; attention_bias covers all four projections; no shared expert.
// Unlike in the dense Qwen3, a window that is used holds in all layers.
absl::StatusOr<ModelSpec> ParseQwen3Moe(const ConfigReader& config) {
  DenseDefaults defaults;
  defaults.max_positions = 32768;
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, ParseDense(config, defaults));
  spec.family = "qwen3_moe";
  CCOE_ASSIGN_OR_RETURN(const bool attention_bias, config.BoolOr("attention_bias", false));
  CCOE_ASSIGN_OR_RETURN(const bool slides, config.BoolOr("use_sliding_window", false));
  int64_t window = 0;
  if (slides) {
    CCOE_ASSIGN_OR_RETURN(window, config.Int("sliding_window", 1, kMaxPositions));
  }
  for (LayerSpec& layer : spec.layers) {
    layer.attention.qk_norm = QkNorm::kPerHead;
    layer.attention.qkv_bias = attention_bias;
    layer.attention.output_bias = attention_bias;
  }
  CCOE_RETURN_IF_ERROR(ApplySlidingWindow(config, {window, 0}, spec));
  CCOE_ASSIGN_OR_RETURN(MoeSpec moe, ParseMoe(config, "num_experts", "moe_intermediate_size"));
  CCOE_ASSIGN_OR_RETURN(moe.gate.renormalize, config.BoolOr("norm_topk_prob", false));
  CCOE_RETURN_IF_ERROR(SetSparseLayers(config, moe, spec));
  return spec;
}

}  // namespace ccoe::model
