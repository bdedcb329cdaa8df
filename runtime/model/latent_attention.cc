#include "runtime/model/latent_attention.h"

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/layer_tensors.h"
#include "runtime/model/residual.h"
#include "runtime/model/scratch.h"

namespace ccoe::model {
namespace {

absl::Status CheckSupported(const AttentionSpec& spec) {
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
void Project(const AttentionSpec& spec, const LatentAttentionWeights& weights, float norm_eps,
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
  CCOE_RETURN_IF_ERROR(CheckSupported(attention));
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
  Project(spec, weights, rows.norm_eps, scratch, ops);
  ops.RopeAndAppendKv(
      {scratch.q, scratch.k, {}, rows.cos, rows.sin, rows.rope_style, rows.slots, rows.cache});
  ops.PagedAttention(AttentionOver(spec, rows, scratch.q, scratch.attended));
  ProjectValues(spec, weights, scratch, ops);
  AddBlockOutput({weights.output, {}, weights.post_norm, rows.norm_eps}, scratch.values,
                 scratch.normed, ops, hidden);
}

}  // namespace ccoe::model
