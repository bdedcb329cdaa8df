// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/families/deepseek.h"

#include <cmath>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/families/dense.h"
#include "runtime/model/families/moe.h"

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

// In the published code the weights are either renormalised or scaled, never both.
absl::Status ParseV2Gate(const ConfigReader& config, MoeSpec& moe) {
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

// Sigmoid scores, a bias for choosing, groups by the sum of their two best; the unbiased scores are
// renormalised, then scaled.
absl::Status ParseV3Gate(const ConfigReader& config, MoeSpec& moe) {
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

// DeepSeek-V2 (arXiv 2405.04434): latent attention.
absl::StatusOr<ModelSpec> ParseDeepseekV2(const ConfigReader& config) {
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, ParseLatentModel(config));
  spec.family = "deepseek_v2";
  CCOE_ASSIGN_OR_RETURN(MoeSpec moe, ParseDeepseekMoe(config));
  CCOE_RETURN_IF_ERROR(ParseV2Gate(config, moe));
  CCOE_RETURN_IF_ERROR(SetDeepseekLayers(config, moe, spec));
  return spec;
}

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
  CCOE_RETURN_IF_ERROR(ParseV3Gate(config, moe));
  CCOE_RETURN_IF_ERROR(SetDeepseekLayers(config, moe, spec));
  return spec;
}

}  // namespace ccoe::model
