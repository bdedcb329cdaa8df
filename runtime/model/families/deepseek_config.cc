#include "runtime/model/families/deepseek_config.h"

#include <cmath>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/families/dense_config.h"
#include "runtime/model/families/limits.h"
#include "runtime/model/families/moe_config.h"
#include "runtime/model/families/rope_config.h"

namespace ccoe::model {
namespace {

constexpr int64_t kMaxSharedExperts = 1024;

absl::StatusOr<LatentSpec> ParseLatent(const ConfigReader& config) {
  constexpr int64_t kDefaultQueryRank = 1536;  // where the key is absent; null means none
  LatentSpec latent;
  if (!config.IsNull("q_lora_rank")) {
    CCOE_ASSIGN_OR_RETURN(latent.q_rank,
                          config.IntOr("q_lora_rank", 1, kMaxWidth, kDefaultQueryRank));
  }
  CCOE_ASSIGN_OR_RETURN(latent.kv_rank, config.Int("kv_lora_rank", 1, kMaxHeadDim));
  CCOE_ASSIGN_OR_RETURN(latent.nope_dim, config.Int("qk_nope_head_dim", 1, kMaxHeadDim));
  CCOE_ASSIGN_OR_RETURN(latent.rope_dim, config.Int("qk_rope_head_dim", 1, kMaxHeadDim));
  CCOE_ASSIGN_OR_RETURN(latent.value_dim, config.Int("v_head_dim", 1, kMaxHeadDim));
  if (latent.kv_rank % 2 != 0) return config.Wrong("kv_lora_rank", "an even number");
  if (latent.rope_dim % 2 != 0) return config.Wrong("qk_rope_head_dim", "an even number");
  return latent;
}

// (nope + rope)^-0.5, and with YaRN the share of its magnitude that cos and sin leave out, once for
// q and once for k (DeepSeek-V2's published code).
absl::StatusOr<float> LatentScale(const ConfigReader& config, const LatentSpec& latent,
                                  const RopeSpec& rope) {
  double scale = 1.0 / std::sqrt(static_cast<double>(latent.nope_dim + latent.rope_dim));
  if (rope.scaling == RopeScaling::kYarn) {
    CCOE_ASSIGN_OR_RETURN(const double all_dim, ParseMscaleAllDim(config));
    const double magnitude = YarnMagnitude(rope.factor, all_dim);  // 1 with 0
    scale *= magnitude * magnitude;
  }
  return static_cast<float>(scale);
}

absl::StatusOr<AttentionSpec> ParseLatentAttention(const ConfigReader& config,
                                                   const RopeSpec& rope) {
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    CCOE_ASSIGN_OR_RETURN(const bool bias, config.BoolOr(key, false));
    if (bias) return config.Unsupported(key, "false");
  }
  AttentionSpec attention;
  CCOE_ASSIGN_OR_RETURN(attention.heads, config.Int("num_attention_heads", 1, kMaxHeads));
  CCOE_ASSIGN_OR_RETURN(const int64_t kv_heads,
                        config.IntOr("num_key_value_heads", 1, kMaxHeads, attention.heads));
  if (kv_heads != attention.heads) {
    return config.Wrong("num_key_value_heads",
                        absl::StrCat("num_attention_heads, ", attention.heads));
  }
  CCOE_ASSIGN_OR_RETURN(attention.latent, ParseLatent(config));
  attention.kv_heads = 1;
  attention.head_dim = attention.latent.rope_dim + attention.latent.kv_rank;
  CCOE_ASSIGN_OR_RETURN(attention.scale, LatentScale(config, attention.latent, rope));
  return attention;
}

}  // namespace

absl::StatusOr<MoeSpec> ParseDeepseekMoe(const ConfigReader& config) {
  CCOE_ASSIGN_OR_RETURN(MoeSpec moe, ParseMoe(config, "n_routed_experts", "moe_intermediate_size"));
  CCOE_ASSIGN_OR_RETURN(const int64_t shared,
                        config.IntOr("n_shared_experts", 0, kMaxSharedExperts, 0));
  if (shared > 0) {
    moe.shared = SharedExpert::kPlain;
    moe.shared_intermediate = shared * moe.intermediate;
    if (moe.shared_intermediate > kMaxWidth) {
      return config.Wrong("n_shared_experts",
                          absl::StrCat("at most ", kMaxWidth / moe.intermediate,
                                       " with moe_intermediate_size ", moe.intermediate));
    }
  }
  return moe;
}

absl::Status ParseGroups(const ConfigReader& config, MoeSpec& moe) {
  kernels::GateForm& gate = moe.gate;
  CCOE_ASSIGN_OR_RETURN(gate.groups, config.Int("n_group", 1, moe.experts));
  CCOE_ASSIGN_OR_RETURN(gate.top_groups, config.Int("topk_group", 1, gate.groups));
  if (moe.experts % gate.groups != 0) {
    return config.Wrong("n_group", absl::StrCat("a divisor of the ", moe.experts, " experts"));
  }
  if (gate.groups == 1) return absl::OkStatus();
  const int64_t per_group = moe.experts / gate.groups;
  if (gate.group_score == kernels::GroupScore::kTopTwoSum && per_group < 2) {
    return config.Wrong("n_group", absl::StrCat("at most ", moe.experts / 2,
                                                ", so that groups have two experts or more"));
  }
  if (gate.top_k > gate.top_groups * per_group) {
    return config.Wrong(
        "num_experts_per_tok",
        absl::StrCat("at most the ", gate.top_groups * per_group, " experts of topk_group groups"));
  }
  return absl::OkStatus();
}

absl::Status SetDeepseekLayers(const ConfigReader& config, const MoeSpec& moe, ModelSpec& spec) {
  CCOE_ASSIGN_OR_RETURN(const int64_t first,
                        config.IntOr("first_k_dense_replace", 0, spec.layer_count(), 0));
  CCOE_ASSIGN_OR_RETURN(const int64_t step, config.IntOr("moe_layer_freq", 1, kMaxLayers, 1));
  for (int64_t i = first; i < spec.layer_count(); ++i) {
    if (i % step == 0) SetExperts(moe, spec.layers[static_cast<size_t>(i)]);
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelSpec> ParseLatentModel(const ConfigReader& config) {
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, ParseModel(config, DenseDefaults{}));
  spec.rope.style = kernels::RopeStyle::kInterleaved;
  CCOE_ASSIGN_OR_RETURN(const AttentionSpec attention, ParseLatentAttention(config, spec.rope));
  CCOE_ASSIGN_OR_RETURN(const int64_t intermediate, config.Int("intermediate_size", 1, kMaxWidth));
  for (LayerSpec& layer : spec.layers) {
    layer.attention = attention;
    layer.ffn.intermediate = intermediate;
  }
  return spec;
}

}  // namespace ccoe::model
