// SPDX-License-Identifier: Apache-2.0
// The attention block of a decoder layer: hidden += post_norm?(o(attention(qkv(norm(hidden))))),
// with keys and values of heads or latent ones, over rotary position embedding.
#ifndef CCOE_RUNTIME_MODEL_ATTENTION_H_
#define CCOE_RUNTIME_MODEL_ATTENTION_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/ops.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::model {

// The part of a head that is rotated, the same in all layers.
int64_t RotaryDim(const ModelSpec& spec);

// The rotary_dim / 2 angular frequencies, radians a position: theta^(-2i / rotary_dim) (Su et al.,
// arXiv 2104.09864), rescaled as spec.scaling says. Rounded to f32 where the reference
// implementation rounds, since positions multiply the error.
std::vector<float> RopeFrequencies(const RopeSpec& spec, int64_t rotary_dim);

// What cosines and sines are multiplied with: spec.attention_factor with kYarn, else 1.
float RopeMagnitude(const RopeSpec& spec);

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

// `hidden` [rows, hidden_size] f32 in place; K and V of the rows go to rows.cache.
void RunAttention(const AttentionSpec& spec, const AttentionWeights& weights,
                  const AttentionRows& rows, const AttentionScratch& scratch, kernels::Ops& ops,
                  kernels::Matrix hidden);

// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1):
//
//   c = norm(W_dkv x), k_rope = rope(W_kr x): all that the cache holds of a token, in one row
//   head h: k = [W_uk,h c | k_rope], v = W_uv,h c
//
// Keys and values are never made: q.k = (W_uk,h^T q_nope).c + rope(q_rope).k_rope, so queries are
// carried into the latent space, attended there over the one cached row that all heads share, and
// what comes out is multiplied by W_uv,h.

// Views into a Weights.
struct LatentAttentionWeights {
  kernels::ConstMatrix norm, post_norm;  // [1, hidden]
  kernels::ConstMatrix q_down, q_norm;   // [q_rank, hidden], [1, q_rank]; empty without q_rank
  // [heads * (nope_dim + rope_dim), q_rank or hidden], each head's rows nope before rope.
  kernels::ConstMatrix q;
  kernels::ConstMatrix kv_down;  // [kv_rank + rope_dim, hidden]: W_dkv, W_kr
  kernels::ConstMatrix kv_norm;  // [1, kv_rank]
  kernels::ConstMatrix kv_up;    // [heads * (nope_dim + value_dim), kv_rank]: W_uk,h, W_uv,h
  kernels::ConstMatrix output;   // [hidden, heads * value_dim]

  // W_uk,h^T of all heads, [heads * kv_rank, nope_dim], in kv_up's dtype.
  kernels::ConstMatrix up_k;
};

// The tensors of layer `layer`, checked. Errors name the tensor; UNIMPLEMENTED for biases, norms of
// heads and clipping, which no model with latent attention has.
absl::StatusOr<LatentAttentionWeights> BindLatentAttention(const ModelSpec& spec, int32_t layer,
                                                           const Weights& weights);

// Scratch, f32, with row = rope_dim + kv_rank: normed [rows, hidden]; q_down [rows, q_rank]; nope
// [rows, heads * nope_dim]; q and attended [rows, heads * row]; k [rows, row]; values [rows, heads
// * value_dim].
struct LatentScratch {
  kernels::Matrix normed, q_down, nope, q, k, attended, values;
};

// `hidden` [rows, hidden_size] f32 in place; the rows' [rope(k_rope) | c] go to rows.cache, whose v
// is its k.
void RunLatentAttention(const AttentionSpec& spec, const LatentAttentionWeights& weights,
                        const AttentionRows& rows, const LatentScratch& scratch, kernels::Ops& ops,
                        kernels::Matrix hidden);

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_ATTENTION_H_
