// SPDX-License-Identifier: Apache-2.0
// What a decoder-only model is: the plain struct every family's config.json is parsed into.
#ifndef CCOE_RUNTIME_MODEL_MODEL_SPEC_H_
#define CCOE_RUNTIME_MODEL_MODEL_SPEC_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "kernels/attention.h"
#include "kernels/ops.h"

namespace ccoe::model {

// Layers [first, last) of a model.
struct LayerRange {
  int32_t first = 0;
  int32_t last = 0;

  int32_t size() const { return last - first; }
  bool empty() const { return last <= first; }
  bool Contains(LayerRange other) const { return first <= other.first && other.last <= last; }
  friend bool operator==(LayerRange a, LayerRange b) {
    return a.first == b.first && a.last == b.last;
  }
};

enum class RopeScaling : uint8_t { kNone, kLinear, kLlama3, kYarn };

// Rotary embedding. kLinear divides positions by `factor`; kLlama3 rescales low frequencies
// (Llama 3.1's rule); kYarn blends both by wavelength (arXiv 2309.00071), with cos and sin times
// `attention_factor`.
struct RopeSpec {
  double theta = 10000.0;
  kernels::RopeStyle style = kernels::RopeStyle::kHalfSplit;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  int64_t original_max_positions = 0;
  double beta_fast = 32.0, beta_slow = 1.0;  // kYarn: rotations where blending starts and ends
  double attention_factor = 1.0;             // kYarn
};

enum class QkNorm : uint8_t { kNone, kPerHead, kWholeProjection };

// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): keys and values are
// functions of one latent vector a token, which is all the cache holds beside the rotated part.
struct LatentSpec {
  int64_t q_rank = 0;     // 0: q is projected in one go
  int64_t kv_rank = 0;    // 0: ordinary attention
  int64_t nope_dim = 0;   // of a head's q and k, not rotated
  int64_t rope_dim = 0;   // of a head's q and the shared k, rotated
  int64_t value_dim = 0;  // of a head's value
};

struct AttentionSpec {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  bool qkv_bias = false;
  bool output_bias = false;
  QkNorm qk_norm = QkNorm::kNone;
  int64_t sliding_window = 0;  // tokens, the row itself included; 0: full attention
  float scale = 0.0f;          // on q.k, usually head_dim^-0.5
  float soft_cap = 0.0f;       // 0: none
  float clip_qkv = 0.0f;       // q, k and v are clamped to [-clip, clip] before rope; 0: not
  // With latent.kv_rank > 0: heads as above, kv_heads = 1 and head_dim = rope_dim + kv_rank
  // describe the cache (queries are carried into the latent space), `scale` is the family's own.
  LatentSpec latent;

  bool is_latent() const { return latent.kv_rank > 0; }
};

enum class FfnKind : uint8_t { kDense, kMoe };

// An expert that every row goes through, added to the routed ones.
enum class SharedExpert : uint8_t { kNone, kPlain, kSigmoidGated };

// A mixture-of-experts layer; a family is a value of this struct (docs/add_a_model_family.md).
struct MoeSpec {
  int64_t experts = 0;
  int64_t intermediate = 0;  // width of one expert
  kernels::GateForm gate;
  bool correction_bias = false;  // a bias that takes part in choosing only
  SharedExpert shared = SharedExpert::kNone;
  int64_t shared_intermediate = 0;
};

struct FfnSpec {
  FfnKind kind = FfnKind::kDense;
  int64_t intermediate = 0;  // kDense
  kernels::Activation activation = kernels::Activation::kSilu;
  bool bias = false;  // kDense
  MoeSpec moe;        // kMoe

  bool is_moe() const { return kind == FfnKind::kMoe; }
};

struct LayerSpec {
  AttentionSpec attention;
  FfnSpec ffn;
  bool post_norms = false;  // attention and feed-forward are normed once more before they are added
};

// How a family names its tensors. Layer names are `layer_prefix` N "." and one of the names below;
// expert names are expert_prefix E "." and a matrix. Matrices end in ".weight" (and ".bias"), norms
// in norm_suffix.
struct TensorNames {
  std::string embedding = "model.embed_tokens";
  std::string final_norm = "model.norm";
  std::string head = "lm_head";
  std::string norm_suffix = ".weight";
  std::string layer_prefix = "model.layers.";
  std::string attention_norm = "input_layernorm";
  std::string attention_post_norm;  // with post_norms
  std::string q = "self_attn.q_proj", k = "self_attn.k_proj", v = "self_attn.v_proj";
  std::string attention_output = "self_attn.o_proj";
  // Latent attention, which has no k and v; q where q_rank is 0.
  std::string q_a = "self_attn.q_a_proj", q_a_norm = "self_attn.q_a_layernorm";
  std::string q_b = "self_attn.q_b_proj";
  std::string kv_a = "self_attn.kv_a_proj_with_mqa", kv_a_norm = "self_attn.kv_a_layernorm";
  std::string kv_b = "self_attn.kv_b_proj";
  std::string q_norm = "self_attn.q_norm", k_norm = "self_attn.k_norm";
  std::string ffn_norm = "post_attention_layernorm";
  std::string ffn_post_norm;  // with post_norms
  std::string gate = "mlp.gate_proj", up = "mlp.up_proj", down = "mlp.down_proj";
  std::string router = "mlp.gate";
  std::string correction_bias = "mlp.gate.e_score_correction_bias";  // whole name
  std::string expert_prefix = "mlp.experts.";
  std::string expert_gate = "gate_proj", expert_up = "up_proj", expert_down = "down_proj";
  std::string shared_prefix = "mlp.shared_experts.";  // and the expert's matrices
  std::string shared_gate = "mlp.shared_expert_gate";
};

struct ModelSpec {
  std::string family;  // "llama", "mistral", "mixtral", "qwen3_moe", ...
  TensorNames names;
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t max_positions = 0;  // the context, prompt and answer together, in tokens
  float norm_eps = 1e-5f;
  bool tied_head = false;  // the LM head is the embedding matrix
  float embedding_multiplier = 1.0f;
  float logit_multiplier = 1.0f;
  float logit_soft_cap = 0.0f;  // 0: none
  RopeSpec rope;
  std::vector<LayerSpec> layers;
  std::vector<int32_t>
      eos_token_ids;          // from config.json and generation_config.json, without repeats
  int32_t bos_token_id = -1;  // -1: none
  // Layers behind the last that predict further tokens; no part of the model that answers.
  int32_t next_token_layers = 0;

  int32_t layer_count() const { return static_cast<int32_t>(layers.size()); }
  bool has_moe() const;
};

// INVALID_ARGUMENT naming the value, what was expected and what was found, where the spec is absurd
// or contradicts itself (a zero or huge size, heads not a multiple of kv_heads, an odd head_dim,
// rotary dimensions that differ between layers, ids outside the vocabulary, more chosen experts
// than there are, groups that do not divide them). Layers may differ in all else.
absl::Status Validate(const ModelSpec& spec);

// All that decides what the model computes, as text: equal for two specs exactly if the same
// weights give the same logits. Leaves out the family's name, the length of the context and the
// special tokens.
std::string FingerprintText(const ModelSpec& spec);

// Whole names of tensors, from how a family names its parts.
//
// "model.layers.3.": what the names of a layer's tensors begin with.
std::string LayerPrefix(const TensorNames& names, int32_t layer);

// "model.layers.3.mlp.experts.7.".
std::string ExpertPrefix(const TensorNames& names, int32_t layer, int32_t expert);

// "lm_head.weight" of "lm_head".
std::string WeightName(absl::string_view name);
// The weight of a norm.
std::string NormName(const TensorNames& names, absl::string_view norm);
std::string BiasName(absl::string_view name);

// The layer a tensor belongs to; none for those outside the layers.
std::optional<int32_t> LayerOfTensor(const TensorNames& names, absl::string_view tensor);

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_MODEL_SPEC_H_
