#include "runtime/model/attention.h"

#include "runtime/base/status_macros.h"
#include "runtime/model/layer_tensors.h"
#include "runtime/model/residual.h"

namespace ccoe::model {
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

}  // namespace ccoe::model
