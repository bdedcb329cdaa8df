#include "runtime/base/status_macros.h"
#include "runtime/model/families/dense_config.h"
#include "runtime/model/families/families.h"

namespace ccoe::model {

// attention_bias covers all four projections, mlp_bias all three.
absl::StatusOr<ModelSpec> ParseLlama(const ConfigReader& config) {
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, ParseDense(config, DenseDefaults{}));
  spec.family = "llama";
  CCOE_ASSIGN_OR_RETURN(const bool attention_bias, config.BoolOr("attention_bias", false));
  CCOE_ASSIGN_OR_RETURN(const bool mlp_bias, config.BoolOr("mlp_bias", false));
  for (LayerSpec& layer : spec.layers) {
    layer.attention.qkv_bias = attention_bias;
    layer.attention.output_bias = attention_bias;
    layer.ffn.bias = mlp_bias;
  }
  return spec;
}

}  // namespace ccoe::model
