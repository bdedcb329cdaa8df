#include <string>

#include "runtime/base/status_macros.h"
#include "runtime/model/families/deepseek_config.h"
#include "runtime/model/families/dense_config.h"
#include "runtime/model/families/families.h"

namespace ccoe::model {

// DeepSeekMoE (arXiv 2401.06066): ordinary attention, attention_bias on all four projections;
// softmax over all experts.
absl::StatusOr<ModelSpec> ParseDeepseek(const ConfigReader& config) {
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, ParseDense(config, DenseDefaults{}));
  spec.family = "deepseek";
  CCOE_ASSIGN_OR_RETURN(const bool attention_bias, config.BoolOr("attention_bias", false));
  for (LayerSpec& layer : spec.layers) {
    layer.attention.qkv_bias = attention_bias;
    layer.attention.output_bias = attention_bias;
  }
  CCOE_ASSIGN_OR_RETURN(const std::string score, config.StringOr("scoring_func", "softmax"));
  if (score != "softmax") return config.Unsupported("scoring_func", "softmax");
  CCOE_ASSIGN_OR_RETURN(MoeSpec moe, ParseDeepseekMoe(config));
  CCOE_ASSIGN_OR_RETURN(const bool renormalize, config.BoolOr("norm_topk_prob", false));
  moe.gate.renormalize = renormalize && moe.gate.top_k > 1;
  CCOE_RETURN_IF_ERROR(SetDeepseekLayers(config, moe, spec));
  return spec;
}

}  // namespace ccoe::model
