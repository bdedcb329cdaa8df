#include "runtime/model/model_spec.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
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

absl::Status ValidateAttention(const AttentionSpec& attention) {
  CCOE_RETURN_IF_ERROR(InRange("attention heads", attention.heads, 1, kMaxHeads));
  CCOE_RETURN_IF_ERROR(InRange("key/value heads", attention.kv_heads, 1, attention.heads));
  if (attention.heads % attention.kv_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat("attention heads: expected a multiple of the ",
                                                   attention.kv_heads, " key/value heads, found ",
                                                   attention.heads));
  }
  CCOE_RETURN_IF_ERROR(InRange("head_dim", attention.head_dim, 2, kMaxHeadDim));
  if (attention.head_dim % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("head_dim: expected an even number, found ", attention.head_dim));
  }
  CCOE_RETURN_IF_ERROR(
      InRange("heads * head_dim", attention.heads * attention.head_dim, 1, kMaxWidth));
  CCOE_RETURN_IF_ERROR(InRange("sliding window", attention.sliding_window, 0, kMaxPositions));
  CCOE_RETURN_IF_ERROR(PositiveFinite("attention scale", attention.scale));
  return ZeroOrMore("attention soft cap", attention.soft_cap);
}

absl::Status ValidateRope(const RopeSpec& rope) {
  CCOE_RETURN_IF_ERROR(PositiveFinite("rope theta", rope.theta));
  if (rope.scaling == RopeScaling::kNone) return absl::OkStatus();
  CCOE_RETURN_IF_ERROR(PositiveFinite("rope factor", rope.factor));
  if (rope.scaling == RopeScaling::kLinear) return absl::OkStatus();
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

}  // namespace

absl::Status Validate(const ModelSpec& spec) {
  CCOE_RETURN_IF_ERROR(InRange("vocab_size", spec.vocab_size, 1, kMaxVocabulary));
  CCOE_RETURN_IF_ERROR(InRange("hidden_size", spec.hidden_size, 1, kMaxWidth));
  CCOE_RETURN_IF_ERROR(InRange("max_positions", spec.max_positions, 1, kMaxPositions));
  CCOE_RETURN_IF_ERROR(PositiveFinite("norm_eps", spec.norm_eps));
  CCOE_RETURN_IF_ERROR(PositiveFinite("embedding_multiplier", spec.embedding_multiplier));
  CCOE_RETURN_IF_ERROR(PositiveFinite("logit_multiplier", spec.logit_multiplier));
  CCOE_RETURN_IF_ERROR(ZeroOrMore("logit_soft_cap", spec.logit_soft_cap));
  CCOE_RETURN_IF_ERROR(ValidateRope(spec.rope));
  CCOE_RETURN_IF_ERROR(InRange("layers", static_cast<int64_t>(spec.layers.size()), 1, kMaxLayers));
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const LayerSpec& layer = spec.layers[i];
    const std::string where = absl::StrCat("layer ", i);
    CCOE_RETURN_IF_ERROR(Annotate(ValidateAttention(layer.attention), where));
    const int64_t head_dim = spec.layers[0].attention.head_dim;  // all layers share the rope table
    CCOE_RETURN_IF_ERROR(
        Annotate(InRange("head_dim", layer.attention.head_dim, head_dim, head_dim), where));
    CCOE_RETURN_IF_ERROR(
        Annotate(InRange("intermediate size", layer.ffn.intermediate, 1, kMaxWidth), where));
  }
  for (const int32_t id : spec.eos_token_ids) {
    CCOE_RETURN_IF_ERROR(InRange("eos_token_id", id, 0, spec.vocab_size - 1));
  }
  return InRange("bos_token_id", spec.bos_token_id, -1, spec.vocab_size - 1);
}

std::string MathsText(const ModelSpec& spec) {
  const RopeSpec& rope = spec.rope;
  std::string text = absl::StrFormat(
      "vocab %d hidden %d eps %.9g tied %d embedding %.9g logits %.9g %.9g\n"
      "rope theta %.17g style %d scaling %d factor %.17g low %.17g high %.17g original %d\n",
      spec.vocab_size, spec.hidden_size, spec.norm_eps, spec.tied_head, spec.embedding_multiplier,
      spec.logit_multiplier, spec.logit_soft_cap, rope.theta, static_cast<int>(rope.style),
      static_cast<int>(rope.scaling), rope.factor, rope.low_freq_factor, rope.high_freq_factor,
      rope.original_max_positions);
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& attention = layer.attention;
    const FfnSpec& ffn = layer.ffn;
    absl::StrAppendFormat(
        &text,
        "heads %d %d dim %d bias %d %d norm %d window %d scale %.9g cap %.9g ffn %d %d %d %d\n",
        attention.heads, attention.kv_heads, attention.head_dim, attention.qkv_bias,
        attention.output_bias, static_cast<int>(attention.qk_norm), attention.sliding_window,
        attention.scale, attention.soft_cap, static_cast<int>(ffn.kind), ffn.intermediate,
        static_cast<int>(ffn.activation), ffn.bias);
  }
  return text;
}

}  // namespace ccoe::model
