// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/families/moe.h"

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/families/dense.h"

namespace ccoe::model {
namespace {

struct NamedCount {
  std::string key;
  int64_t count = 0;
};

// The number of experts and the key it stands under.
absl::StatusOr<NamedCount> ParseExperts(const ConfigReader& config, absl::string_view own_key) {
  NamedCount experts;
  for (const char* key : {"num_local_experts", "num_experts", "n_routed_experts"}) {
    if (!config.Has(key)) continue;
    CCOE_ASSIGN_OR_RETURN(const int64_t count, config.Int(key, 1, kMaxExperts));
    if (!experts.key.empty() && count != experts.count) {
      return config.Wrong(key,
                          absl::StrCat("what the key ", experts.key, " says, ", experts.count));
    }
    if (experts.key.empty()) experts = {key, count};
  }
  if (experts.key.empty()) return config.Int(own_key, 1, kMaxExperts).status();
  return experts;
}

absl::StatusOr<MoeSpec> ParseExperts(const ConfigReader& config) {
  constexpr int64_t kDefaultShared = 5632;
  CCOE_ASSIGN_OR_RETURN(MoeSpec moe, ParseMoe(config, "num_experts", "moe_intermediate_size"));
  CCOE_ASSIGN_OR_RETURN(moe.gate.renormalize, config.BoolOr("norm_topk_prob", false));
  CCOE_ASSIGN_OR_RETURN(moe.shared_intermediate, config.IntOr("shared_expert_intermediate_size", 0,
                                                              kMaxWidth, kDefaultShared));
  if (moe.shared_intermediate > 0) moe.shared = SharedExpert::kSigmoidGated;
  return moe;
}

// What both layouts of the checkpoint have in common: four norms a layer, multipliers, capped
// attention, experts in every layer. `activation` is the one the layout's own code takes where the
// config has no hidden_act: the two differ in their form of GELU.
absl::StatusOr<ModelSpec> ParseGrok1(const ConfigReader& config, const char* experts_key,
                                     const char* activation) {
  DenseDefaults defaults;
  defaults.max_positions = 8192;
  defaults.norm_eps = 1e-5;
  defaults.activation = activation;
  defaults.tied_head = true;
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, ParseDense(config, defaults));
  CCOE_ASSIGN_OR_RETURN(const double embedding, config.Positive("embedding_multiplier_scale"));
  CCOE_ASSIGN_OR_RETURN(const double logits, config.Positive("output_multiplier_scale"));
  CCOE_ASSIGN_OR_RETURN(const double scale, config.Positive("attn_output_multiplier"));
  CCOE_ASSIGN_OR_RETURN(const double cap, config.Positive("max_attn_value"));
  CCOE_ASSIGN_OR_RETURN(const MoeSpec moe, ParseMoe(config, experts_key, "intermediate_size"));
  spec.embedding_multiplier = static_cast<float>(embedding);
  spec.logit_multiplier = static_cast<float>(logits);
  for (LayerSpec& layer : spec.layers) {
    layer.attention.scale = static_cast<float>(scale);
    layer.attention.soft_cap = static_cast<float>(cap);
    layer.post_norms = true;
    SetExperts(moe, layer);
  }
  return spec;
}

void NameExperts(TensorNames& names) {
  names.expert_gate = "linear";
  names.expert_up = "linear_v";
  names.expert_down = "linear_1";
}

}  // namespace

absl::StatusOr<MoeSpec> ParseMoe(const ConfigReader& config, absl::string_view experts_key,
                                 absl::string_view width_key) {
  MoeSpec moe;
  CCOE_ASSIGN_OR_RETURN(const NamedCount experts, ParseExperts(config, experts_key));
  moe.experts = experts.count;
  CCOE_ASSIGN_OR_RETURN(moe.intermediate, config.Int(width_key, 1, kMaxWidth));
  CCOE_ASSIGN_OR_RETURN(moe.gate.top_k, config.Int("num_experts_per_tok", 1, kMaxExperts));
  if (moe.gate.top_k > moe.experts) {
    return config.Wrong("num_experts_per_tok",
                        absl::StrCat("at most ", experts.key, ", ", moe.experts));
  }
  return moe;
}

void SetExperts(const MoeSpec& moe, LayerSpec& layer) {
  layer.ffn.kind = FfnKind::kMoe;
  layer.ffn.intermediate = 0;
  layer.ffn.moe = moe;
}

absl::Status SetSparseLayers(const ConfigReader& config, const MoeSpec& moe, ModelSpec& spec) {
  CCOE_ASSIGN_OR_RETURN(const int64_t step, config.IntOr("decoder_sparse_step", 1, kMaxLayers, 1));
  CCOE_ASSIGN_OR_RETURN(const std::vector<int64_t> listed,
                        config.Ints("mlp_only_layers", 0, spec.layer_count() - 1));
  const std::set<int64_t> dense(listed.begin(), listed.end());
  for (int64_t i = 0; i < spec.layer_count(); ++i) {
    if ((i + 1) % step != 0 || dense.count(i) > 0) continue;
    SetExperts(moe, spec.layers[static_cast<size_t>(i)]);
  }
  return absl::OkStatus();
}

// Experts in every layer, chosen by softmax and always renormalised. Unlike Mistral's, a window
// that the config does not name is none.
absl::StatusOr<ModelSpec> ParseMixtral(const ConfigReader& config) {
  DenseDefaults defaults;
  defaults.max_positions = 131072;
  defaults.norm_eps = 1e-5;
  defaults.rope_theta = 1e6;
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, ParseDense(config, defaults));
  spec.family = "mixtral";
  TensorNames& names = spec.names;
  names.router = "block_sparse_moe.gate";
  names.expert_prefix = "block_sparse_moe.experts.";
  names.expert_gate = "w1";
  names.expert_up = "w3";
  names.expert_down = "w2";
  CCOE_ASSIGN_OR_RETURN(MoeSpec moe, ParseMoe(config, "num_local_experts", "intermediate_size"));
  moe.gate.renormalize = true;
  CCOE_ASSIGN_OR_RETURN(const int64_t window, config.IntOr("sliding_window", 1, kMaxPositions, 0));
  for (LayerSpec& layer : spec.layers) {
    layer.attention.sliding_window = window;
    SetExperts(moe, layer);
  }
  return spec;
}

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

// q and k are normed head by head; attention_bias covers all four projections; no shared expert.
// Unlike in the dense Qwen3, a window that is used holds in all layers.
absl::StatusOr<ModelSpec> ParseQwen3Moe(const ConfigReader& config) {
  DenseDefaults defaults;
  defaults.max_positions = 32768;
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, ParseDense(config, defaults));
  spec.family = "qwen3_moe";
  CCOE_ASSIGN_OR_RETURN(const bool attention_bias, config.BoolOr("attention_bias", false));
  CCOE_ASSIGN_OR_RETURN(const bool slides, config.BoolOr("use_sliding_window", false));
  int64_t window = 0;
  if (slides) {
    CCOE_ASSIGN_OR_RETURN(window, config.Int("sliding_window", 1, kMaxPositions));
  }
  for (LayerSpec& layer : spec.layers) {
    layer.attention.qk_norm = QkNorm::kPerHead;
    layer.attention.qkv_bias = attention_bias;
    layer.attention.output_bias = attention_bias;
  }
  CCOE_RETURN_IF_ERROR(ApplySlidingWindow(config, {window, 0}, spec));
  CCOE_ASSIGN_OR_RETURN(MoeSpec moe, ParseMoe(config, "num_experts", "moe_intermediate_size"));
  CCOE_ASSIGN_OR_RETURN(moe.gate.renormalize, config.BoolOr("norm_topk_prob", false));
  CCOE_RETURN_IF_ERROR(SetSparseLayers(config, moe, spec));
  return spec;
}

// Tensor names as in the release. GELU in its tanh form, as jax.nn.gelu.
absl::StatusOr<ModelSpec> ParseGrok(const ConfigReader& config) {
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec,
                        ParseGrok1(config, "num_local_experts", "gelu_pytorch_tanh"));
  spec.family = "grok";
  TensorNames& names = spec.names;
  names.embedding = "transformer.in_out_embed";
  names.final_norm = "transformer.rms_norm";
  names.layer_prefix = "transformer.decoder_layer.";
  names.attention_norm = "rms_norm";
  names.attention_post_norm = "rms_norm_1";
  names.ffn_norm = "rms_norm_2";
  names.ffn_post_norm = "rms_norm_3";
  names.q = "multi_head_attention.query";
  names.k = "multi_head_attention.key";
  names.v = "multi_head_attention.value";
  names.attention_output = "multi_head_attention.linear";
  names.router = "router";
  names.expert_prefix = "moe.";
  NameExperts(names);
  return spec;
}

// The PyTorch port on the hub (model_type grok-1). GELU in its exact form, as torch.nn.GELU.
absl::StatusOr<ModelSpec> ParseGrokPort(const ConfigReader& config) {
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, ParseGrok1(config, "num_experts", "gelu"));
  spec.family = "grok-1";
  TensorNames& names = spec.names;
  names.norm_suffix = ".scale";
  names.attention_norm = "pre_attn_norm";
  names.attention_post_norm = "post_attn_norm";
  names.ffn_norm = "pre_moe_norm";
  names.ffn_post_norm = "post_moe_norm";
  names.q = "attn.q_proj";
  names.k = "attn.k_proj";
  names.v = "attn.v_proj";
  names.attention_output = "attn.o_proj";
  names.router = "moe_block.gate";
  names.expert_prefix = "moe_block.experts.";
  NameExperts(names);
  return spec;
}

}  // namespace ccoe::model
