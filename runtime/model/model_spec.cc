// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/model_spec.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "runtime/base/status_macros.h"

namespace ccoe::model {
namespace {

// Far above any model there is, and low enough that products of three sizes fit into 63 bits.
constexpr int64_t kMaxVocabulary = int64_t{1} << 24;
constexpr int64_t kMaxWidth = int64_t{1} << 20;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxHeadDim = 4096;
constexpr size_t kMaxLayers = 4096;
constexpr int64_t kMaxPositions = int64_t{1} << 30;
constexpr int64_t kMaxExperts = int64_t{1} << 16;
// Over all layers: sets of (layer, expert) are made of what a config says.
constexpr int64_t kMaxLayerExperts = int64_t{1} << 20;

absl::Status InRange(absl::string_view what, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": expected ", low, " to ", high, ", found ", value));
}

absl::Status PositiveFinite(absl::string_view what, double value) {
  if (std::isfinite(value) && value > 0.0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, ": expected a number > 0, found ", value));
}

absl::Status ZeroOrMore(absl::string_view what, double value) {
  if (std::isfinite(value) && value >= 0.0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, ": expected a number >= 0, found ", value));
}

absl::Status Wrong(absl::string_view what, absl::string_view expected, absl::string_view found) {
  return absl::InvalidArgumentError(absl::StrCat(what, ": expected ", expected, ", found ", found));
}

absl::Status ValidateLatent(const AttentionSpec& attention) {
  const LatentSpec& latent = attention.latent;
  if (!attention.is_latent()) {
    if (latent.kv_rank == 0 && latent.q_rank == 0 && latent.nope_dim == 0 && latent.rope_dim == 0 &&
        latent.value_dim == 0) {
      return absl::OkStatus();
    }
    return Wrong("latent kv_rank", "a number > 0 where other sizes of latent attention are set",
                 absl::StrCat(latent.kv_rank));
  }
  CCOE_RETURN_IF_ERROR(InRange("latent kv_rank", latent.kv_rank, 1, kMaxHeadDim));
  CCOE_RETURN_IF_ERROR(InRange("latent q_rank", latent.q_rank, 0, kMaxWidth));
  CCOE_RETURN_IF_ERROR(InRange("latent nope_dim", latent.nope_dim, 1, kMaxHeadDim));
  CCOE_RETURN_IF_ERROR(InRange("latent rope_dim", latent.rope_dim, 2, kMaxHeadDim));
  CCOE_RETURN_IF_ERROR(InRange("latent value_dim", latent.value_dim, 1, kMaxHeadDim));
  if (latent.rope_dim % 2 != 0) {
    return Wrong("latent rope_dim", "an even number", absl::StrCat(latent.rope_dim));
  }
  CCOE_RETURN_IF_ERROR(InRange("key/value heads of latent attention", attention.kv_heads, 1, 1));
  const int64_t cached = latent.rope_dim + latent.kv_rank;
  CCOE_RETURN_IF_ERROR(InRange("head_dim of latent attention (rope_dim + kv_rank)",
                               attention.head_dim, cached, cached));
  CCOE_RETURN_IF_ERROR(InRange("heads * (nope_dim + rope_dim)",
                               attention.heads * (latent.nope_dim + latent.rope_dim), 1,
                               kMaxWidth));
  return InRange("heads * value_dim", attention.heads * latent.value_dim, 1, kMaxWidth);
}

absl::Status ValidateAttention(const AttentionSpec& attention) {
  CCOE_RETURN_IF_ERROR(InRange("attention heads", attention.heads, 1, kMaxHeads));
  CCOE_RETURN_IF_ERROR(InRange("key/value heads", attention.kv_heads, 1, attention.heads));
  if (attention.heads % attention.kv_heads != 0) {
    return Wrong("attention heads",
                 absl::StrCat("a multiple of the ", attention.kv_heads, " key/value heads"),
                 absl::StrCat(attention.heads));
  }
  CCOE_RETURN_IF_ERROR(InRange("head_dim", attention.head_dim, 2, kMaxHeadDim));
  if (attention.head_dim % 2 != 0) {
    return Wrong("head_dim", "an even number", absl::StrCat(attention.head_dim));
  }
  CCOE_RETURN_IF_ERROR(
      InRange("heads * head_dim", attention.heads * attention.head_dim, 1, kMaxWidth));
  CCOE_RETURN_IF_ERROR(InRange("sliding window", attention.sliding_window, 0, kMaxPositions));
  CCOE_RETURN_IF_ERROR(PositiveFinite("attention scale", attention.scale));
  CCOE_RETURN_IF_ERROR(ZeroOrMore("attention soft cap", attention.soft_cap));
  CCOE_RETURN_IF_ERROR(ZeroOrMore("clip_qkv", attention.clip_qkv));
  return ValidateLatent(attention);
}

absl::Status ValidateGate(const kernels::GateForm& gate, int64_t experts) {
  CCOE_RETURN_IF_ERROR(
      InRange(absl::StrCat("chosen experts (top_k) of ", experts), gate.top_k, 1, experts));
  CCOE_RETURN_IF_ERROR(PositiveFinite("scale of the expert weights", gate.scale));
  CCOE_RETURN_IF_ERROR(InRange("groups of experts", gate.groups, 1, experts));
  if (experts % gate.groups != 0) {
    return Wrong("groups of experts", absl::StrCat("a divisor of the ", experts, " experts"),
                 absl::StrCat(gate.groups));
  }
  CCOE_RETURN_IF_ERROR(InRange("chosen groups of experts", gate.top_groups, 1, gate.groups));
  const int64_t per_group = experts / gate.groups;
  CCOE_RETURN_IF_ERROR(
      InRange(absl::StrCat("chosen experts (top_k) of ", gate.top_groups, " groups of ", per_group),
              gate.top_k, 1, gate.top_groups * per_group));
  if (gate.groups > 1 && gate.group_score == kernels::GroupScore::kTopTwoSum && per_group < 2) {
    return Wrong("experts of a group", "2 or more, since its two best are added",
                 absl::StrCat(per_group));
  }
  return absl::OkStatus();
}

absl::Status ValidateFfn(const FfnSpec& ffn) {
  if (!ffn.is_moe()) return InRange("intermediate size", ffn.intermediate, 1, kMaxWidth);
  if (ffn.bias) return Wrong("bias of the experts", "none", "one");
  const MoeSpec& moe = ffn.moe;
  CCOE_RETURN_IF_ERROR(InRange("experts", moe.experts, 1, kMaxExperts));
  CCOE_RETURN_IF_ERROR(InRange("intermediate size of an expert", moe.intermediate, 1, kMaxWidth));
  CCOE_RETURN_IF_ERROR(ValidateGate(moe.gate, moe.experts));
  const bool shared = moe.shared != SharedExpert::kNone;
  return InRange("intermediate size of the shared expert", moe.shared_intermediate, shared ? 1 : 0,
                 shared ? kMaxWidth : 0);
}

absl::Status ValidatePostNorms(const LayerSpec& layer, const TensorNames& names) {
  if (!layer.post_norms) return absl::OkStatus();
  if (names.attention_post_norm.empty() || names.ffn_post_norm.empty()) {
    return Wrong("tensor names of the norms after attention and feed-forward", "both", "none");
  }
  return absl::OkStatus();
}

int64_t RotaryDim(const AttentionSpec& attention) {
  return attention.is_latent() ? attention.latent.rope_dim : attention.head_dim;
}

absl::Status ValidateYarn(const RopeSpec& rope) {
  CCOE_RETURN_IF_ERROR(PositiveFinite("rope beta_fast", rope.beta_fast));
  CCOE_RETURN_IF_ERROR(PositiveFinite("rope beta_slow", rope.beta_slow));
  if (rope.beta_fast < rope.beta_slow) {
    return Wrong("rope beta_fast", absl::StrCat("at least beta_slow (", rope.beta_slow, ")"),
                 absl::StrCat(rope.beta_fast));
  }
  CCOE_RETURN_IF_ERROR(PositiveFinite("rope attention_factor", rope.attention_factor));
  if (rope.theta <= 1.0) return Wrong("rope theta", "more than 1", absl::StrCat(rope.theta));
  return InRange("rope original_max_position_embeddings", rope.original_max_positions, 1,
                 kMaxPositions);
}

absl::Status ValidateRope(const RopeSpec& rope) {
  CCOE_RETURN_IF_ERROR(PositiveFinite("rope theta", rope.theta));
  if (rope.scaling == RopeScaling::kNone) return absl::OkStatus();
  CCOE_RETURN_IF_ERROR(PositiveFinite("rope factor", rope.factor));
  if (rope.scaling == RopeScaling::kLinear) return absl::OkStatus();
  if (rope.scaling == RopeScaling::kYarn) return ValidateYarn(rope);
  CCOE_RETURN_IF_ERROR(PositiveFinite("rope low_freq_factor", rope.low_freq_factor));
  CCOE_RETURN_IF_ERROR(PositiveFinite("rope high_freq_factor", rope.high_freq_factor));
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    return absl::InvalidArgumentError(
        absl::StrCat("rope high_freq_factor: expected more than low_freq_factor (",
                     rope.low_freq_factor, "), found ", rope.high_freq_factor));
  }
  return InRange("rope original_max_position_embeddings", rope.original_max_positions, 1,
                 kMaxPositions);
}

absl::Status ValidateLayers(const ModelSpec& spec) {
  CCOE_RETURN_IF_ERROR(InRange("layers", static_cast<int64_t>(spec.layers.size()), 1, kMaxLayers));
  const int64_t rotary = RotaryDim(spec.layers[0].attention);  // all layers share the rope table
  int64_t experts = 0;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const LayerSpec& layer = spec.layers[i];
    const std::string where = absl::StrCat("layer ", i);
    CCOE_RETURN_IF_ERROR_IN(ValidateAttention(layer.attention), where);
    CCOE_RETURN_IF_ERROR(
        Annotate(InRange(layer.attention.is_latent() ? "latent rope_dim" : "head_dim",
                         RotaryDim(layer.attention), rotary, rotary),
                 where));
    CCOE_RETURN_IF_ERROR_IN(ValidateFfn(layer.ffn), where);
    CCOE_RETURN_IF_ERROR_IN(ValidatePostNorms(layer, spec.names), where);
    if (layer.ffn.is_moe()) experts += layer.ffn.moe.experts;
  }
  return InRange("experts of all layers", experts, 0, kMaxLayerExperts);
}

// What few layers have, and only where they have it: the text of a layer without any of it must
// stay as it is, since fingerprints of published bundles hang on it.
void AppendRareMaths(const LayerSpec& layer, std::string& text) {
  const AttentionSpec& attention = layer.attention;
  if (attention.clip_qkv > 0.0f) absl::StrAppendFormat(&text, " clip %.9g", attention.clip_qkv);
  if (attention.is_latent()) {
    const LatentSpec& latent = attention.latent;
    absl::StrAppendFormat(&text, " latent %d %d nope %d rope %d value %d", latent.q_rank,
                          latent.kv_rank, latent.nope_dim, latent.rope_dim, latent.value_dim);
  }
  if (layer.post_norms) absl::StrAppend(&text, " post_norms");
  if (!layer.ffn.is_moe()) return;
  const MoeSpec& moe = layer.ffn.moe;
  const kernels::GateForm& gate = moe.gate;
  absl::StrAppendFormat(&text, " experts %d %d shared %d %d score %d top %d renorm %d scale %.9g",
                        moe.experts, moe.intermediate, static_cast<int>(moe.shared),
                        moe.shared_intermediate, static_cast<int>(gate.score), gate.top_k,
                        gate.renormalize, gate.scale);
  if (moe.correction_bias) absl::StrAppend(&text, " corrected");
  if (gate.groups > 1) {
    absl::StrAppendFormat(&text, " groups %d %d by %d", gate.groups, gate.top_groups,
                          static_cast<int>(gate.group_score));
  }
}

}  // namespace

bool ModelSpec::has_moe() const {
  return std::any_of(layers.begin(), layers.end(),
                     [](const LayerSpec& layer) { return layer.ffn.is_moe(); });
}

absl::Status Validate(const ModelSpec& spec) {
  CCOE_RETURN_IF_ERROR(InRange("vocab_size", spec.vocab_size, 1, kMaxVocabulary));
  CCOE_RETURN_IF_ERROR(InRange("hidden_size", spec.hidden_size, 1, kMaxWidth));
  CCOE_RETURN_IF_ERROR(InRange("max_positions", spec.max_positions, 1, kMaxPositions));
  CCOE_RETURN_IF_ERROR(PositiveFinite("norm_eps", spec.norm_eps));
  CCOE_RETURN_IF_ERROR(PositiveFinite("embedding_multiplier", spec.embedding_multiplier));
  CCOE_RETURN_IF_ERROR(PositiveFinite("logit_multiplier", spec.logit_multiplier));
  CCOE_RETURN_IF_ERROR(ZeroOrMore("logit_soft_cap", spec.logit_soft_cap));
  CCOE_RETURN_IF_ERROR(ValidateRope(spec.rope));
  CCOE_RETURN_IF_ERROR(ValidateLayers(spec));
  for (const int32_t id : spec.eos_token_ids) {
    CCOE_RETURN_IF_ERROR(InRange("eos_token_id", id, 0, spec.vocab_size - 1));
  }
  return InRange("bos_token_id", spec.bos_token_id, -1, spec.vocab_size - 1);
}

std::string FingerprintText(const ModelSpec& spec) {
  const RopeSpec& rope = spec.rope;
  std::string text = absl::StrFormat(
      "vocab %d hidden %d eps %.9g tied %d embedding %.9g logits %.9g %.9g\n"
      "rope theta %.17g style %d scaling %d factor %.17g low %.17g high %.17g original %d\n",
      spec.vocab_size, spec.hidden_size, spec.norm_eps, spec.tied_head, spec.embedding_multiplier,
      spec.logit_multiplier, spec.logit_soft_cap, rope.theta, static_cast<int>(rope.style),
      static_cast<int>(rope.scaling), rope.factor, rope.low_freq_factor, rope.high_freq_factor,
      rope.original_max_positions);
  if (rope.scaling == RopeScaling::kYarn) {
    absl::StrAppendFormat(&text, "yarn fast %.17g slow %.17g attention %.17g\n", rope.beta_fast,
                          rope.beta_slow, rope.attention_factor);
  }
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& attention = layer.attention;
    const FfnSpec& ffn = layer.ffn;
    absl::StrAppendFormat(
        &text,
        "heads %d %d dim %d bias %d %d norm %d window %d scale %.9g cap %.9g ffn %d %d %d %d",
        attention.heads, attention.kv_heads, attention.head_dim, attention.qkv_bias,
        attention.output_bias, static_cast<int>(attention.qk_norm), attention.sliding_window,
        attention.scale, attention.soft_cap, static_cast<int>(ffn.kind),
        ffn.is_moe() ? 0 : ffn.intermediate, static_cast<int>(ffn.activation), ffn.bias);
    AppendRareMaths(layer, text);
    text += '\n';
  }
  return text;
}

std::string LayerPrefix(const TensorNames& names, int32_t layer) {
  return absl::StrCat(names.layer_prefix, layer, ".");
}

std::string ExpertPrefix(const TensorNames& names, int32_t layer, int32_t expert) {
  return absl::StrCat(LayerPrefix(names, layer), names.expert_prefix, expert, ".");
}

std::string WeightName(absl::string_view name) { return absl::StrCat(name, ".weight"); }

std::string NormName(const TensorNames& names, absl::string_view norm) {
  return absl::StrCat(norm, names.norm_suffix);
}

std::string BiasName(absl::string_view name) { return absl::StrCat(name, ".bias"); }

std::optional<int32_t> LayerOfTensor(const TensorNames& names, absl::string_view tensor) {
  if (!absl::ConsumePrefix(&tensor, names.layer_prefix)) return std::nullopt;
  int32_t layer = 0;
  if (!absl::SimpleAtoi(tensor.substr(0, tensor.find('.')), &layer)) return std::nullopt;
  return layer;
}

}  // namespace ccoe::model
