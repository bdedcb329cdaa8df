#include "runtime/model/op_shapes.h"

#include <algorithm>

namespace ccoe::model {
namespace {

using kernels::OpShapes;

void AddAttention(const ModelSpec& spec, const AttentionSpec& attention, const PassLimits& limits,
                  OpShapes& shapes) {
  const int64_t hidden = spec.hidden_size, rows = limits.rows;
  const int64_t q_size = attention.heads * attention.head_dim;
  const int64_t kv_size = attention.kv_heads * attention.head_dim;
  if (attention.is_latent()) {
    const LatentSpec& latent = attention.latent;
    const int64_t query_in = latent.q_rank > 0 ? latent.q_rank : hidden;
    shapes.products.push_back({rows, hidden, std::max(kv_size, latent.q_rank)});
    shapes.products.push_back({rows, query_in, q_size + attention.heads * latent.nope_dim});
    shapes.head_products.push_back({rows, attention.heads, latent.nope_dim, latent.kv_rank});
    shapes.head_products.push_back({rows, attention.heads, latent.kv_rank, latent.value_dim});
    shapes.products.push_back({rows, attention.heads * latent.value_dim, hidden});
  } else {
    shapes.products.push_back({rows, hidden, q_size + 2 * kv_size});
    shapes.products.push_back({rows, q_size, hidden});
  }
  OpShapes::Attention& paged = shapes.attentions.emplace_back();
  paged.rows = rows;
  paged.sequences = std::min(limits.sequences, rows);
  paged.tokens = std::min(limits.tokens, spec.max_positions);
  paged.page_tokens = limits.page_tokens;
  paged.heads = attention.heads;
  paged.kv_heads = attention.kv_heads;
  paged.head_dim = attention.head_dim;
}

void AddGatedFfn(int64_t rows, int64_t hidden, int64_t intermediate, OpShapes& shapes) {
  shapes.products.push_back({rows, hidden, 2 * intermediate});
  shapes.products.push_back({rows, intermediate, hidden});
}

void AddExperts(const ModelSpec& spec, const MoeSpec& moe, int64_t rows, int64_t pairs,
                OpShapes& shapes) {
  OpShapes::Experts& experts = shapes.experts.emplace_back();
  experts.rows = rows;
  experts.pairs = pairs;
  experts.experts = moe.experts;
  experts.hidden = spec.hidden_size;
  experts.intermediate = moe.intermediate;
}

void AddFfn(const ModelSpec& spec, const FfnSpec& ffn, int64_t rows, OpShapes& shapes) {
  if (!ffn.is_moe()) return AddGatedFfn(rows, spec.hidden_size, ffn.intermediate, shapes);
  shapes.products.push_back({rows, spec.hidden_size, ffn.moe.experts});
  if (ffn.moe.shared_intermediate > 0) {
    AddGatedFfn(rows, spec.hidden_size, ffn.moe.shared_intermediate, shapes);
  }
  AddExperts(spec, ffn.moe, rows, rows * ffn.moe.gate.top_k, shapes);
}

}  // namespace

OpShapes ShapesOfPasses(const ModelSpec& spec, const PassLimits& limits) {
  OpShapes shapes;
  for (const LayerSpec& layer : spec.layers) {
    AddAttention(spec, layer.attention, limits, shapes);
    AddFfn(spec, layer.ffn, limits.rows, shapes);
  }
  if (limits.head_rows > 0) {
    shapes.products.push_back({limits.head_rows, spec.hidden_size, spec.vocab_size});
    shapes.sampled_rows = limits.head_rows;
    shapes.vocabulary = spec.vocab_size;
  }
  shapes.captured_steps = std::min(limits.sequences, limits.rows);
  return shapes;
}

OpShapes ShapesOfExperts(const ModelSpec& spec, int64_t pairs) {
  OpShapes shapes;
  for (const LayerSpec& layer : spec.layers) {
    if (layer.ffn.is_moe()) AddExperts(spec, layer.ffn.moe, pairs, pairs, shapes);
  }
  return shapes;
}

}  // namespace ccoe::model
