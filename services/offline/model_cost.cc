#include "services/offline/model_cost.h"

namespace ccoe::services {
namespace {

int64_t LayerParameters(const model::ModelSpec& spec, const model::LayerSpec& layer) {
  const model::AttentionSpec& a = layer.attention;
  const int64_t attention = spec.hidden_size * a.head_dim * (2 * a.heads + 2 * a.kv_heads);
  return attention + 3 * spec.hidden_size * layer.ffn.intermediate + 2 * spec.hidden_size;
}

int64_t AllLayers(const model::ModelSpec& spec) {
  int64_t sum = 0;
  for (const model::LayerSpec& layer : spec.layers) sum += LayerParameters(spec, layer);
  return sum;
}

int64_t HeadParameters(const model::ModelSpec& spec) { return spec.vocab_size * spec.hidden_size; }

}  // namespace

int64_t ParametersTouched(const model::ModelSpec& spec) {
  return AllLayers(spec) + HeadParameters(spec) + spec.hidden_size;
}

int64_t ParametersTotal(const model::ModelSpec& spec) {
  return ParametersTouched(spec) + (spec.tied_head ? 0 : HeadParameters(spec));
}

int64_t DecodeBytes(const model::ModelSpec& spec, int64_t bytes_per_weight) {
  return ParametersTouched(spec) * bytes_per_weight;
}

double PrefillFlops(const model::ModelSpec& spec, int64_t tokens) {
  double flops = 2.0 * static_cast<double>(AllLayers(spec)) * static_cast<double>(tokens);
  flops += 2.0 * static_cast<double>(HeadParameters(spec));
  for (const model::LayerSpec& layer : spec.layers) {
    const double width = static_cast<double>(layer.attention.heads * layer.attention.head_dim);
    flops += 2.0 * width * static_cast<double>(tokens) * static_cast<double>(tokens + 1);
  }
  return flops;
}

}  // namespace ccoe::services
