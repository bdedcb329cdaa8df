#include "runtime/base/status_macros.h"
#include "runtime/model/families/dense_config.h"
#include "runtime/model/families/families.h"
#include "runtime/model/families/moe_config.h"

namespace ccoe::model {

// Experts in every layer; q and k are normed whole, before they are cut into heads, then clipped
// where clip_qkv says so. attention_bias covers all four projections.
absl::StatusOr<ModelSpec> ParseOlmoe(const ConfigReader& config) {
  DenseDefaults defaults;
  defaults.max_positions = 4096;
  defaults.norm_eps = 1e-5;
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, ParseDense(config, defaults));
  spec.family = "olmoe";
  CCOE_ASSIGN_OR_RETURN(MoeSpec moe, ParseMoe(config, "num_experts", "intermediate_size"));
  CCOE_ASSIGN_OR_RETURN(moe.gate.renormalize, config.BoolOr("norm_topk_prob", false));
  CCOE_ASSIGN_OR_RETURN(const bool attention_bias, config.BoolOr("attention_bias", false));
  CCOE_ASSIGN_OR_RETURN(const double clip, config.PositiveOr("clip_qkv", 0.0));
  for (LayerSpec& layer : spec.layers) {
    layer.attention.qk_norm = QkNorm::kWholeProjection;
    layer.attention.clip_qkv = static_cast<float>(clip);
    layer.attention.qkv_bias = attention_bias;
    layer.attention.output_bias = attention_bias;
    SetExperts(moe, layer);
  }
  return spec;
}

}  // namespace ccoe::model
