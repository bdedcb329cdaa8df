#include "runtime/model/attention.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace ccoe::model {
namespace {

absl::Status BindHeadNorms(const AttentionSpec& spec, const std::string& attention,
                           const Weights& weights, AttentionWeights& bound) {
  if (spec.qk_norm == QkNorm::kNone) return absl::OkStatus();
  const bool whole = spec.qk_norm == QkNorm::kWholeProjection;
  const int64_t q_size = whole ? spec.heads * spec.head_dim : spec.head_dim;
  const int64_t k_size = whole ? spec.kv_heads * spec.head_dim : spec.head_dim;
  CCOE_ASSIGN_OR_RETURN(bound.q_norm,
                        weights.Vector(absl::StrCat(attention, ".q_norm.weight"), q_size));
  CCOE_ASSIGN_OR_RETURN(bound.k_norm,
                        weights.Vector(absl::StrCat(attention, ".k_norm.weight"), k_size));
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

absl::StatusOr<AttentionWeights> BindAttention(const AttentionSpec& spec, int64_t hidden_size,
                                               absl::string_view prefix, const Weights& weights) {
  const std::string attention = absl::StrCat(prefix, ".self_attn");
  const int64_t q_size = spec.heads * spec.head_dim;
  const int64_t kv_size = spec.kv_heads * spec.head_dim;
  AttentionWeights bound;
  CCOE_ASSIGN_OR_RETURN(
      bound.norm, weights.Vector(absl::StrCat(prefix, ".input_layernorm.weight"), hidden_size));
  CCOE_ASSIGN_OR_RETURN(
      bound.q, weights.Matrix(absl::StrCat(attention, ".q_proj.weight"), q_size, hidden_size));
  CCOE_ASSIGN_OR_RETURN(
      bound.k, weights.Matrix(absl::StrCat(attention, ".k_proj.weight"), kv_size, hidden_size));
  CCOE_ASSIGN_OR_RETURN(
      bound.v, weights.Matrix(absl::StrCat(attention, ".v_proj.weight"), kv_size, hidden_size));
  CCOE_ASSIGN_OR_RETURN(
      bound.output, weights.Matrix(absl::StrCat(attention, ".o_proj.weight"), hidden_size, q_size));
  if (spec.qkv_bias) {
    CCOE_ASSIGN_OR_RETURN(bound.q_bias,
                          weights.Vector(absl::StrCat(attention, ".q_proj.bias"), q_size));
    CCOE_ASSIGN_OR_RETURN(bound.k_bias,
                          weights.Vector(absl::StrCat(attention, ".k_proj.bias"), kv_size));
    CCOE_ASSIGN_OR_RETURN(bound.v_bias,
                          weights.Vector(absl::StrCat(attention, ".v_proj.bias"), kv_size));
  }
  if (spec.output_bias) {
    CCOE_ASSIGN_OR_RETURN(bound.output_bias,
                          weights.Vector(absl::StrCat(attention, ".o_proj.bias"), hidden_size));
  }
  CCOE_RETURN_IF_ERROR(BindHeadNorms(spec, attention, weights, bound));
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
  ops.RopeAndAppendKv({scratch.q, scratch.k, scratch.v, rows.cos, rows.sin, rows.rope_style,
                       rows.slots, rows.cache});
  kernels::PagedAttentionArgs attention;
  attention.q = scratch.q;
  attention.heads = spec.heads;
  attention.cache = rows.cache;
  attention.sequences = rows.sequences;
  attention.scale = spec.scale;
  attention.sliding_window = spec.sliding_window;
  attention.soft_cap = spec.soft_cap;
  attention.out = scratch.attended;
  ops.PagedAttention(attention);
  const kernels::LinearPart output[] = {
      {weights.output, weights.output_bias, hidden, /*accumulate=*/true}};
  ops.Linear(scratch.attended, output);
}

}  // namespace ccoe::model
