// The attention block of a decoder layer: hidden += o(attention(qkv(norm(hidden)))).
#ifndef CCOE_RUNTIME_MODEL_ATTENTION_H_
#define CCOE_RUNTIME_MODEL_ATTENTION_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kernels/ops.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::model {

// Views into a Weights. Biases and head norms are empty where the spec has none.
struct AttentionWeights {
  kernels::ConstMatrix norm;    // [1, hidden]
  kernels::ConstMatrix q;       // [heads * head_dim, hidden]
  kernels::ConstMatrix k, v;    // [kv_heads * head_dim, hidden]
  kernels::ConstMatrix output;  // [hidden, heads * head_dim]
  kernels::ConstMatrix q_bias, k_bias, v_bias, output_bias;
  kernels::ConstMatrix q_norm, k_norm;  // [1, head_dim] or [1, the whole projection]
};

// The tensors PREFIX.input_layernorm.weight and PREFIX.self_attn.*, checked. Errors name the
// tensor.
absl::StatusOr<AttentionWeights> BindAttention(const AttentionSpec& spec, int64_t hidden_size,
                                               absl::string_view prefix, const Weights& weights);

// The rows of a pass and where their K and V go in this layer.
struct AttentionRows {
  absl::Span<const kernels::SequenceRows> sequences;
  absl::Span<const int64_t> slots;  // [rows]
  kernels::ConstMatrix cos, sin;    // [rows, head_dim / 2] f32
  kernels::RopeStyle rope_style = kernels::RopeStyle::kHalfSplit;
  float norm_eps = 1e-5f;
  kernels::KvLayer cache;
};

// Scratch, f32: normed [rows, hidden]; q and attended [rows, heads * head_dim]; k and v [rows,
// kv_heads * head_dim].
struct AttentionScratch {
  kernels::Matrix normed, q, k, v, attended;
};

// `hidden` [rows, hidden_size] f32 in place; K and V of the rows go to rows.cache.
void RunAttention(const AttentionSpec& spec, const AttentionWeights& weights,
                  const AttentionRows& rows, const AttentionScratch& scratch, kernels::Ops& ops,
                  kernels::Matrix hidden);

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_ATTENTION_H_
