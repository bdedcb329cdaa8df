// The attention block of a decoder layer: hidden += post_norm?(o(attention(qkv(norm(hidden))))).
#ifndef CCOE_RUNTIME_MODEL_ATTENTION_H_
#define CCOE_RUNTIME_MODEL_ATTENTION_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/ops.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::model {

// Views into a Weights. Biases, head norms and the post norm are empty where the spec has none.
struct AttentionWeights {
  kernels::ConstMatrix norm, post_norm;  // [1, hidden]
  kernels::ConstMatrix q;                // [heads * head_dim, hidden]
  kernels::ConstMatrix k, v;             // [kv_heads * head_dim, hidden]
  kernels::ConstMatrix output;           // [hidden, heads * head_dim]
  kernels::ConstMatrix q_bias, k_bias, v_bias, output_bias;
  kernels::ConstMatrix q_norm, k_norm;  // [1, head_dim] or [1, the whole projection]
};

// The tensors of layer `layer`, checked. Errors name the tensor.
absl::StatusOr<AttentionWeights> BindAttention(const ModelSpec& spec, int32_t layer,
                                               const Weights& weights);

// The rows of a pass and where their K and V go in this layer.
struct AttentionRows {
  absl::Span<const kernels::SequenceRows> sequences;
  absl::Span<const int64_t> slots;  // [rows]
  kernels::ConstMatrix cos, sin;    // [rows, rotary_dim / 2] f32
  kernels::RopeStyle rope_style = kernels::RopeStyle::kHalfSplit;
  float norm_eps = 1e-5f;
  kernels::KvLayer cache;
};

// Scratch, f32: normed [rows, hidden]; q and attended [rows, heads * head_dim]; k and v [rows,
// kv_heads * head_dim].
struct AttentionScratch {
  kernels::Matrix normed, q, k, v, attended;
};

// Attention of q over the cache of the rows' sequences.
kernels::PagedAttentionArgs AttentionOver(const AttentionSpec& spec, const AttentionRows& rows,
                                          kernels::ConstMatrix q, kernels::Matrix out);

// `hidden` [rows, hidden_size] f32 in place; K and V of the rows go to rows.cache.
void RunAttention(const AttentionSpec& spec, const AttentionWeights& weights,
                  const AttentionRows& rows, const AttentionScratch& scratch, kernels::Ops& ops,
                  kernels::Matrix hidden);

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_ATTENTION_H_
