#include "runtime/base/status_macros.h"
#include "runtime/model/families/dense_config.h"
#include "runtime/model/families/families.h"

namespace ccoe::model {

// q, k and v always have a bias, the output projection never.
absl::StatusOr<ModelSpec> ParseQwen2(const ConfigReader& config) {
  DenseDefaults defaults;
  defaults.max_positions = 32768;
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, ParseDense(config, defaults));
  spec.family = "qwen2";
  for (LayerSpec& layer : spec.layers) layer.attention.qkv_bias = true;
  CCOE_ASSIGN_OR_RETURN(const SlidingWindow window, ParseOptionalWindow(config));
  CCOE_RETURN_IF_ERROR(ApplySlidingWindow(config, window, spec));
  return spec;
}

}  // namespace ccoe::model
