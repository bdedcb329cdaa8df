#include <cstdint>

#include "runtime/base/status_macros.h"
#include "runtime/model/families/dense_config.h"
#include "runtime/model/families/families.h"
#include "runtime/model/families/limits.h"
#include "runtime/model/families/moe_config.h"

namespace ccoe::model {
namespace {

absl::StatusOr<MoeSpec> ParseExperts(const ConfigReader& config) {
  constexpr int64_t kDefaultShared = 5632;
  CCOE_ASSIGN_OR_RETURN(MoeSpec moe, ParseMoe(config, "num_experts", "moe_intermediate_size"));
  CCOE_ASSIGN_OR_RETURN(moe.gate.renormalize, config.BoolOr("norm_topk_prob", false));
  CCOE_ASSIGN_OR_RETURN(moe.shared_intermediate, config.IntOr("shared_expert_intermediate_size", 0,
                                                              kMaxWidth, kDefaultShared));
  if (moe.shared_intermediate > 0) moe.shared = SharedExpert::kSigmoidGated;
  return moe;
}

}  // namespace

// Attention as Qwen2's, a shared expert behind a sigmoid. Which layers slide where layer_types does
// not say it has changed between releases of the reference, so such a config is refused.
absl::StatusOr<ModelSpec> ParseQwen2Moe(const ConfigReader& config) {
  DenseDefaults defaults;
  defaults.max_positions = 32768;
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, ParseDense(config, defaults));
  spec.family = "qwen2_moe";
  spec.names.shared_prefix = "mlp.shared_expert.";
  CCOE_ASSIGN_OR_RETURN(const bool qkv_bias, config.BoolOr("qkv_bias", true));
  for (LayerSpec& layer : spec.layers) layer.attention.qkv_bias = qkv_bias;
  CCOE_ASSIGN_OR_RETURN(const SlidingWindow window, ParseOptionalWindow(config));
  if (window.tokens > 0 && !config.Has("layer_types")) {
    return config.Unsupported("layer_types", "a list, since use_sliding_window is true");
  }
  CCOE_RETURN_IF_ERROR(ApplySlidingWindow(config, window, spec));
  CCOE_ASSIGN_OR_RETURN(const MoeSpec moe, ParseExperts(config));
  CCOE_RETURN_IF_ERROR(SetSparseLayers(config, moe, spec));
  return spec;
}

}  // namespace ccoe::model
