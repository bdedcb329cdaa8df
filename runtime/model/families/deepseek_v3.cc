#include <cstdint>
#include <string>

#include "runtime/base/status_macros.h"
#include "runtime/model/families/deepseek_config.h"
#include "runtime/model/families/families.h"
#include "runtime/model/families/limits.h"

namespace ccoe::model {
namespace {

// Sigmoid scores, a bias for choosing, groups by the sum of their two best; the unbiased scores are
// renormalised, then scaled.
absl::Status ParseGate(const ConfigReader& config, MoeSpec& moe) {
  CCOE_ASSIGN_OR_RETURN(const std::string score, config.StringOr("scoring_func", "sigmoid"));
  if (score != "sigmoid") return config.Unsupported("scoring_func", "sigmoid");
  CCOE_ASSIGN_OR_RETURN(const std::string method, config.StringOr("topk_method", "noaux_tc"));
  if (method != "noaux_tc") return config.Unsupported("topk_method", "noaux_tc");
  moe.correction_bias = true;
  moe.gate.score = kernels::RouterScore::kSigmoid;
  moe.gate.group_score = kernels::GroupScore::kTopTwoSum;
  CCOE_RETURN_IF_ERROR(ParseGroups(config, moe));
  CCOE_ASSIGN_OR_RETURN(moe.gate.renormalize, config.BoolOr("norm_topk_prob", true));
  CCOE_ASSIGN_OR_RETURN(const double scale, config.PositiveOr("routed_scaling_factor", 2.5));
  moe.gate.scale = static_cast<float>(scale);
  return absl::OkStatus();
}

}  // namespace

// DeepSeek-V3 (arXiv 2412.19437): latent attention. Its layers for predicting further tokens
// (num_nextn_predict_layers) are not part of the model that answers.
absl::StatusOr<ModelSpec> ParseDeepseekV3(const ConfigReader& config) {
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, ParseLatentModel(config));
  spec.family = "deepseek_v3";
  CCOE_ASSIGN_OR_RETURN(const bool interleaved, config.BoolOr("rope_interleave", true));
  CCOE_ASSIGN_OR_RETURN(const int64_t further,
                        config.IntOr("num_nextn_predict_layers", 0, kMaxLayers, 0));
  spec.next_token_layers = static_cast<int32_t>(further);
  if (!interleaved) spec.rope.style = kernels::RopeStyle::kHalfSplit;
  CCOE_ASSIGN_OR_RETURN(MoeSpec moe, ParseDeepseekMoe(config));
  CCOE_RETURN_IF_ERROR(ParseGate(config, moe));
  CCOE_RETURN_IF_ERROR(SetDeepseekLayers(config, moe, spec));
  return spec;
}

}  // namespace ccoe::model
