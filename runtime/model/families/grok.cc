#include "runtime/base/status_macros.h"
#include "runtime/model/families/dense.h"
#include "runtime/model/families/families.h"
#include "runtime/model/families/moe.h"

namespace ccoe::model {
namespace {

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
