// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/attention.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/block.h"

namespace ccoe::model {

// Rotary position embedding.

namespace {

// Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between blended.
float Llama3Scaled(const RopeSpec& spec, float frequency) {
  const double original = static_cast<double>(spec.original_max_positions);
  const double wavelength = 2.0 * M_PI / frequency;
  if (wavelength < original / spec.high_freq_factor) return frequency;
  if (wavelength > original / spec.low_freq_factor) {
    return static_cast<float>(frequency / spec.factor);
  }
  const double smooth = (original / wavelength - spec.low_freq_factor) /
                        (spec.high_freq_factor - spec.low_freq_factor);
  return static_cast<float>((1.0 - smooth) * frequency / spec.factor + smooth * frequency);
}

// YaRN blends by the place i of a frequency among rotary_dim / 2: `rotations` turns over the
// original context are made by frequency number RotationPlace(rotations).
double RotationPlace(const RopeSpec& spec, int64_t rotary_dim, double rotations) {
  const double context = static_cast<double>(spec.original_max_positions);
  return static_cast<double>(rotary_dim) * std::log(context / (rotations * 2.0 * M_PI)) /
         (2.0 * std::log(spec.theta));
}

// Places between which YaRN blends: below `low` frequencies are kept, above `high` divided.
struct YarnRange {
  double low = 0.0, high = 0.0;
};

YarnRange BlendedPlaces(const RopeSpec& spec, int64_t rotary_dim) {
  const double highest = static_cast<double>(rotary_dim - 1);
  YarnRange range;
  range.low = std::max(std::floor(RotationPlace(spec, rotary_dim, spec.beta_fast)), 0.0);
  range.high = std::min(std::ceil(RotationPlace(spec, rotary_dim, spec.beta_slow)), highest);
  if (range.low == range.high) range.high += 0.001;  // as the reference: a step, not a ramp
  return range;
}

float YarnScaled(const RopeSpec& spec, YarnRange range, int64_t place, float power) {
  const float kept = 1.0f / power;
  const float stretched = 1.0f / (static_cast<float>(spec.factor) * power);
  const float ramp = (static_cast<float>(place) - static_cast<float>(range.low)) /
                     static_cast<float>(range.high - range.low);
  const float share_kept = 1.0f - std::clamp(ramp, 0.0f, 1.0f);
  return stretched * (1.0f - share_kept) + kept * share_kept;
}

}  // namespace

int64_t RotaryDim(const ModelSpec& spec) {
  const AttentionSpec& attention = spec.layers[0].attention;
  return attention.is_latent() ? attention.latent.rope_dim : attention.head_dim;
}

std::vector<float> RopeFrequencies(const RopeSpec& spec, int64_t rotary_dim) {
  const bool yarn = spec.scaling == RopeScaling::kYarn;
  const YarnRange range = yarn ? BlendedPlaces(spec, rotary_dim) : YarnRange{};
  std::vector<float> frequencies;
  for (int64_t i = 0; i < rotary_dim; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(rotary_dim);
    const float power = static_cast<float>(std::pow(spec.theta, static_cast<double>(exponent)));
    float frequency = 1.0f / power;
    if (spec.scaling == RopeScaling::kLinear) {
      frequency = static_cast<float>(frequency / spec.factor);
    } else if (spec.scaling == RopeScaling::kLlama3) {
      frequency = Llama3Scaled(spec, frequency);
    } else if (yarn) {
      frequency = YarnScaled(spec, range, i / 2, power);
    }
    frequencies.push_back(frequency);
  }
  return frequencies;
}

float RopeMagnitude(const RopeSpec& spec) {
  return spec.scaling == RopeScaling::kYarn ? static_cast<float>(spec.attention_factor) : 1.0f;
}

// Attention with keys and values of heads.

namespace {

absl::Status BindBiases(const ModelSpec& model, const AttentionSpec& spec,
                        const LayerTensors& tensors, AttentionWeights& bound) {
  const TensorNames& names = model.names;
  const int64_t kv_size = spec.kv_heads * spec.head_dim;
  if (spec.qkv_bias) {
    CCOE_ASSIGN_OR_RETURN(bound.q_bias, tensors.Bias(names.q, spec.heads * spec.head_dim));
    CCOE_ASSIGN_OR_RETURN(bound.k_bias, tensors.Bias(names.k, kv_size));
    CCOE_ASSIGN_OR_RETURN(bound.v_bias, tensors.Bias(names.v, kv_size));
  }
  if (spec.output_bias) {
    CCOE_ASSIGN_OR_RETURN(bound.output_bias,
                          tensors.Bias(names.attention_output, model.hidden_size));
  }
  return absl::OkStatus();
}

absl::Status BindHeadNorms(const TensorNames& names, const AttentionSpec& spec,
                           const LayerTensors& tensors, AttentionWeights& bound) {
  if (spec.qk_norm == QkNorm::kNone) return absl::OkStatus();
  const bool whole = spec.qk_norm == QkNorm::kWholeProjection;
  const int64_t q_size = whole ? spec.heads * spec.head_dim : spec.head_dim;
  const int64_t k_size = whole ? spec.kv_heads * spec.head_dim : spec.head_dim;
  CCOE_ASSIGN_OR_RETURN(bound.q_norm, tensors.Norm(names.q_norm, q_size));
  CCOE_ASSIGN_OR_RETURN(bound.k_norm, tensors.Norm(names.k_norm, k_size));
  return absl::OkStatus();
}

// The norm of q or k [rows, heads * head_dim], in place: over each head alone, or over the whole
// row.
void NormHeads(const AttentionSpec& spec, kernels::ConstMatrix weight, float eps, kernels::Ops& ops,
               kernels::Matrix x) {
  if (spec.qk_norm == QkNorm::kPerHead) {
    x = {x.data, x.dtype, x.rows * (x.cols / spec.head_dim), spec.head_dim, spec.head_dim};
  }
  ops.RmsNorm(x, weight, eps, x);
}

// Attention of q over the cache of the rows' sequences.
kernels::PagedAttentionArgs AttentionOver(const AttentionSpec& spec, const AttentionRows& rows,
                                          kernels::ConstMatrix q, kernels::Matrix out) {
  kernels::PagedAttentionArgs args;
  args.q = q;
  args.heads = spec.heads;
  args.cache = rows.cache;
  args.sequences = rows.sequences;
  args.scale = spec.scale;
  args.sliding_window = spec.sliding_window;
  args.soft_cap = spec.soft_cap;
  args.out = out;
  return args;
}

}  // namespace

absl::StatusOr<AttentionWeights> BindAttention(const ModelSpec& spec, int32_t layer,
                                               const Weights& weights) {
  const LayerSpec& layer_spec = spec.layers[static_cast<size_t>(layer)];
  const AttentionSpec& attention = layer_spec.attention;
  const TensorNames& names = spec.names;
  const LayerTensors tensors(spec, layer, weights);
  const int64_t hidden = spec.hidden_size;
  const int64_t q_size = attention.heads * attention.head_dim;
  const int64_t kv_size = attention.kv_heads * attention.head_dim;
  AttentionWeights bound;
  CCOE_ASSIGN_OR_RETURN(bound.norm, tensors.Norm(names.attention_norm, hidden));
  CCOE_ASSIGN_OR_RETURN(bound.q, tensors.Matrix(names.q, q_size, hidden));
  CCOE_ASSIGN_OR_RETURN(bound.k, tensors.Matrix(names.k, kv_size, hidden));
  CCOE_ASSIGN_OR_RETURN(bound.v, tensors.Matrix(names.v, kv_size, hidden));
  CCOE_ASSIGN_OR_RETURN(bound.output, tensors.Matrix(names.attention_output, hidden, q_size));
  if (layer_spec.post_norms) {
    CCOE_ASSIGN_OR_RETURN(bound.post_norm, tensors.Norm(names.attention_post_norm, hidden));
  }
  CCOE_RETURN_IF_ERROR(BindBiases(spec, attention, tensors, bound));
  CCOE_RETURN_IF_ERROR(BindHeadNorms(names, attention, tensors, bound));
  return bound;
}

void RunAttention(const AttentionSpec& spec, const AttentionWeights& weights,
                  const AttentionRows& rows, const AttentionScratch& scratch, kernels::Ops& ops,
                  kernels::Matrix hidden) {
  ops.RmsNorm(hidden, weights.norm, rows.norm_eps, scratch.normed);
  const kernels::LinearPart projections[] = {
      {weights.q, weights.q_bias, scratch.q, /*accumulate=*/false},
      {weights.k, weights.k_bias, scratch.k, /*accumulate=*/false},
      {weights.v, weights.v_bias, scratch.v, /*accumulate=*/false},
  };
  ops.Linear(scratch.normed, projections);
  if (spec.qk_norm != QkNorm::kNone) {
    NormHeads(spec, weights.q_norm, rows.norm_eps, ops, scratch.q);
    NormHeads(spec, weights.k_norm, rows.norm_eps, ops, scratch.k);
  }
  if (spec.clip_qkv > 0.0f) {
    for (const kernels::Matrix& x : {scratch.q, scratch.k, scratch.v}) {
      ops.ClampRows(spec.clip_qkv, x);
    }
  }
  ops.RopeAndAppendKv({scratch.q, scratch.k, scratch.v, rows.cos, rows.sin, rows.rope_style,
                       rows.slots, rows.cache});
  ops.PagedAttention(AttentionOver(spec, rows, scratch.q, scratch.attended));
  AddBlockOutput({weights.output, weights.output_bias, weights.post_norm, rows.norm_eps},
                 scratch.attended, scratch.normed, ops, hidden);
}

// Latent attention.

namespace {

absl::Status CheckLatentSupported(const AttentionSpec& spec) {
  if (!spec.qkv_bias && !spec.output_bias && spec.qk_norm == QkNorm::kNone &&
      spec.clip_qkv == 0.0f) {
    return absl::OkStatus();
  }
  return absl::UnimplementedError(
      "latent attention with biases, norms of heads or clipping is not supported");
}

// to[c * rows + r] = from[r * cols + c].
template <typename T>
void Transpose(const void* from, int64_t rows, int64_t cols, void* to) {
  const T* in = static_cast<const T*>(from);
  T* out = static_cast<T*>(to);
  for (int64_t c = 0; c < cols; ++c) {
    for (int64_t r = 0; r < rows; ++r) out[c * rows + r] = in[r * cols + c];
  }
}

// The k half of `kv_up` (host memory), head by head turned over, to `out`.
void TurnUpK(const AttentionSpec& spec, kernels::ConstMatrix kv_up, void* out) {
  const LatentSpec& latent = spec.latent;
  const size_t element = kernels::DTypeBytes(kv_up.dtype);
  char* next = static_cast<char*>(out);
  for (int64_t head = 0; head < spec.heads; ++head) {
    const void* from = kv_up.Row(head * (latent.nope_dim + latent.value_dim));
    if (element == sizeof(uint16_t)) {
      Transpose<uint16_t>(from, latent.nope_dim, latent.kv_rank, next);
    } else {
      Transpose<uint32_t>(from, latent.nope_dim, latent.kv_rank, next);
    }
    next += static_cast<size_t>(latent.nope_dim * latent.kv_rank) * element;
  }
}

absl::Status BindUpProjection(const TensorNames& names, const AttentionSpec& spec,
                              const LayerTensors& tensors, LatentAttentionWeights& bound) {
  const LatentSpec& latent = spec.latent;
  const int64_t rows = spec.heads * (latent.nope_dim + latent.value_dim);
  CCOE_ASSIGN_OR_RETURN(bound.kv_up, tensors.Matrix(names.kv_b, rows, latent.kv_rank));
  CCOE_ASSIGN_OR_RETURN(const kernels::ConstMatrix mapped,
                        tensors.MappedMatrix(names.kv_b, rows, latent.kv_rank));
  CCOE_ASSIGN_OR_RETURN(
      bound.up_k,
      tensors.weights().Computed(absl::StrCat(tensors.prefix(), names.kv_b, ": W_uk transposed"),
                                 mapped.dtype, spec.heads * latent.kv_rank, latent.nope_dim,
                                 [&](void* out) { TurnUpK(spec, mapped, out); }));
  return absl::OkStatus();
}

absl::Status BindQuery(const ModelSpec& spec, const AttentionSpec& attention,
                       const LayerTensors& tensors, LatentAttentionWeights& bound) {
  const TensorNames& names = spec.names;
  const LatentSpec& latent = attention.latent;
  const int64_t q_size = attention.heads * (latent.nope_dim + latent.rope_dim);
  if (latent.q_rank == 0) {
    CCOE_ASSIGN_OR_RETURN(bound.q, tensors.Matrix(names.q, q_size, spec.hidden_size));
    return absl::OkStatus();
  }
  CCOE_ASSIGN_OR_RETURN(bound.q_down, tensors.Matrix(names.q_a, latent.q_rank, spec.hidden_size));
  CCOE_ASSIGN_OR_RETURN(bound.q_norm, tensors.Norm(names.q_a_norm, latent.q_rank));
  CCOE_ASSIGN_OR_RETURN(bound.q, tensors.Matrix(names.q_b, q_size, latent.q_rank));
  return absl::OkStatus();
}

// Heads' queries: nope into scratch.nope, rope where attention wants it. `x` is the rows' input or,
// with q_rank, its low-rank form.
void ProjectQuery(const AttentionSpec& spec, const LatentAttentionWeights& weights,
                  kernels::ConstMatrix x, const LatentScratch& scratch, kernels::Ops& ops) {
  const LatentSpec& latent = spec.latent;
  kernels::HeadLinearArgs nope;
  nope.heads = spec.heads;
  nope.x = x;
  nope.weight = weights.q.Slice(0, latent.nope_dim);
  nope.weight_step = latent.nope_dim + latent.rope_dim;
  nope.out = Columns(scratch.nope, 0, latent.nope_dim);
  nope.out_step = latent.nope_dim;
  ops.HeadLinear(nope);
  kernels::HeadLinearArgs rope = nope;
  rope.weight = weights.q.Slice(latent.nope_dim, latent.rope_dim);
  rope.out = Columns(scratch.q, 0, latent.rope_dim);
  rope.out_step = spec.head_dim;
  ops.HeadLinear(rope);
}

// Carries scratch.nope into the latent space, where attention wants it.
void AbsorbQuery(const AttentionSpec& spec, const LatentAttentionWeights& weights,
                 const LatentScratch& scratch, kernels::Ops& ops) {
  const LatentSpec& latent = spec.latent;
  kernels::HeadLinearArgs absorb;
  absorb.heads = spec.heads;
  absorb.x = Columns(scratch.nope, 0, latent.nope_dim);
  absorb.x_step = latent.nope_dim;
  absorb.weight = weights.up_k.Slice(0, latent.kv_rank);
  absorb.weight_step = latent.kv_rank;
  absorb.out = Columns(scratch.q, latent.rope_dim, latent.kv_rank);
  absorb.out_step = spec.head_dim;
  ops.HeadLinear(absorb);
}

// What the heads attended to, out of the latent space into scratch.values.
void ProjectValues(const AttentionSpec& spec, const LatentAttentionWeights& weights,
                   const LatentScratch& scratch, kernels::Ops& ops) {
  const LatentSpec& latent = spec.latent;
  kernels::HeadLinearArgs value;
  value.heads = spec.heads;
  value.x = Columns(scratch.attended, latent.rope_dim, latent.kv_rank);
  value.x_step = spec.head_dim;
  value.weight = weights.kv_up.Slice(latent.nope_dim, latent.value_dim);
  value.weight_step = latent.nope_dim + latent.value_dim;
  value.out = Columns(scratch.values, 0, latent.value_dim);
  value.out_step = latent.value_dim;
  ops.HeadLinear(value);
}

// Fills scratch.q and scratch.k, not yet rotated.
void ProjectLatent(const AttentionSpec& spec, const LatentAttentionWeights& weights, float norm_eps,
                   const LatentScratch& scratch, kernels::Ops& ops) {
  const LatentSpec& latent = spec.latent;
  const kernels::Matrix c = Columns(scratch.k, latent.rope_dim, latent.kv_rank);
  const kernels::LinearPart down[] = {
      {weights.kv_down.Slice(0, latent.kv_rank), {}, c, /*accumulate=*/false},
      {weights.kv_down.Slice(latent.kv_rank, latent.rope_dim),
       {},
       Columns(scratch.k, 0, latent.rope_dim),
       /*accumulate=*/false}};
  ops.Linear(scratch.normed, down);
  ops.RmsNorm(c, weights.kv_norm, norm_eps, c);
  if (latent.q_rank > 0) {
    const kernels::LinearPart q_down[] = {
        {weights.q_down, {}, scratch.q_down, /*accumulate=*/false}};
    ops.Linear(scratch.normed, q_down);
    ops.RmsNorm(scratch.q_down, weights.q_norm, norm_eps, scratch.q_down);
    ProjectQuery(spec, weights, scratch.q_down, scratch, ops);
  } else {
    ProjectQuery(spec, weights, scratch.normed, scratch, ops);
  }
  AbsorbQuery(spec, weights, scratch, ops);
}

}  // namespace

absl::StatusOr<LatentAttentionWeights> BindLatentAttention(const ModelSpec& spec, int32_t layer,
                                                           const Weights& weights) {
  const LayerSpec& layer_spec = spec.layers[static_cast<size_t>(layer)];
  const AttentionSpec& attention = layer_spec.attention;
  const LatentSpec& latent = attention.latent;
  const TensorNames& names = spec.names;
  const LayerTensors tensors(spec, layer, weights);
  const int64_t hidden = spec.hidden_size;
  CCOE_RETURN_IF_ERROR(CheckLatentSupported(attention));
  LatentAttentionWeights bound;
  CCOE_ASSIGN_OR_RETURN(bound.norm, tensors.Norm(names.attention_norm, hidden));
  CCOE_RETURN_IF_ERROR(BindQuery(spec, attention, tensors, bound));
  CCOE_ASSIGN_OR_RETURN(bound.kv_down,
                        tensors.Matrix(names.kv_a, latent.kv_rank + latent.rope_dim, hidden));
  CCOE_ASSIGN_OR_RETURN(bound.kv_norm, tensors.Norm(names.kv_a_norm, latent.kv_rank));
  CCOE_RETURN_IF_ERROR(BindUpProjection(names, attention, tensors, bound));
  CCOE_ASSIGN_OR_RETURN(bound.output, tensors.Matrix(names.attention_output, hidden,
                                                     attention.heads * latent.value_dim));
  if (layer_spec.post_norms) {
    CCOE_ASSIGN_OR_RETURN(bound.post_norm, tensors.Norm(names.attention_post_norm, hidden));
  }
  return bound;
}

void RunLatentAttention(const AttentionSpec& spec, const LatentAttentionWeights& weights,
                        const AttentionRows& rows, const LatentScratch& scratch, kernels::Ops& ops,
                        kernels::Matrix hidden) {
  ops.RmsNorm(hidden, weights.norm, rows.norm_eps, scratch.normed);
  ProjectLatent(spec, weights, rows.norm_eps, scratch, ops);
  ops.RopeAndAppendKv(
      {scratch.q, scratch.k, {}, rows.cos, rows.sin, rows.rope_style, rows.slots, rows.cache});
  ops.PagedAttention(AttentionOver(spec, rows, scratch.q, scratch.attended));
  ProjectValues(spec, weights, scratch, ops);
  AddBlockOutput({weights.output, {}, weights.post_norm, rows.norm_eps}, scratch.values,
                 scratch.normed, ops, hidden);
}

}  // namespace ccoe::model
