#include "runtime/base/status_macros.h"
#include "runtime/model/families/dense_config.h"
#include "runtime/model/families/families.h"

namespace ccoe::model {

// q and k are normed head by head before rope; attention_bias covers all four projections.
absl::StatusOr<ModelSpec> ParseQwen3(const ConfigReader& config) {
  DenseDefaults defaults;
  defaults.max_positions = 32768;
  defaults.head_dim = 128;
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, ParseDense(config, defaults));
  spec.family = "qwen3";
  CCOE_ASSIGN_OR_RETURN(const bool attention_bias, config.BoolOr("attention_bias", false));
  for (LayerSpec& layer : spec.layers) {
    layer.attention.qk_norm = QkNorm::kPerHead;
    layer.attention.qkv_bias = attention_bias;
    layer.attention.output_bias = attention_bias;
  }
  CCOE_ASSIGN_OR_RETURN(const SlidingWindow window, ParseOptionalWindow(config));
  CCOE_RETURN_IF_ERROR(ApplySlidingWindow(config, window, spec));
  return spec;
}

}  // namespace ccoe::model
