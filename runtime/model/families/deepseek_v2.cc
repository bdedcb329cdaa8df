#include <string>

#include "runtime/base/status_macros.h"
#include "runtime/model/families/deepseek_config.h"
#include "runtime/model/families/families.h"

namespace ccoe::model {
namespace {

// In the published code the weights are either renormalised or scaled, never both.
absl::Status ParseGate(const ConfigReader& config, MoeSpec& moe) {
  CCOE_ASSIGN_OR_RETURN(const std::string score, config.StringOr("scoring_func", "softmax"));
  if (score != "softmax") return config.Unsupported("scoring_func", "softmax");
  CCOE_ASSIGN_OR_RETURN(const std::string method, config.StringOr("topk_method", "greedy"));
  if (method == "group_limited_greedy") {
    moe.gate.group_score = kernels::GroupScore::kMax;
    CCOE_RETURN_IF_ERROR(ParseGroups(config, moe));
  } else if (method != "greedy") {
    return config.Unsupported("topk_method", "greedy or group_limited_greedy");
  }
  CCOE_ASSIGN_OR_RETURN(const bool renormalize, config.BoolOr("norm_topk_prob", false));
  CCOE_ASSIGN_OR_RETURN(const double scale, config.PositiveOr("routed_scaling_factor", 1.0));
  moe.gate.renormalize = renormalize && moe.gate.top_k > 1;
  if (!moe.gate.renormalize) moe.gate.scale = static_cast<float>(scale);
  return absl::OkStatus();
}

}  // namespace

// DeepSeek-V2 (arXiv 2405.04434): latent attention.
absl::StatusOr<ModelSpec> ParseDeepseekV2(const ConfigReader& config) {
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, ParseLatentModel(config));
  spec.family = "deepseek_v2";
  CCOE_ASSIGN_OR_RETURN(MoeSpec moe, ParseDeepseekMoe(config));
  CCOE_RETURN_IF_ERROR(ParseGate(config, moe));
  CCOE_RETURN_IF_ERROR(SetDeepseekLayers(config, moe, spec));
  return spec;
}

}  // namespace ccoe::model
