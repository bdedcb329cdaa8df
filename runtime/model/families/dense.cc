#include "runtime/model/families/dense.h"

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/families/families.h"
#include "runtime/model/families/rope_config.h"

namespace ccoe::model {
namespace {

absl::StatusOr<kernels::Activation> ParseActivation(const ConfigReader& config,
                                                    absl::string_view fallback) {
  CCOE_ASSIGN_OR_RETURN(const std::string name, config.StringOr("hidden_act", fallback));
  if (name == "silu" || name == "swish") return kernels::Activation::kSilu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return kernels::Activation::kGeluTanh;
  if (name == "gelu") return kernels::Activation::kGeluErf;
  return config.Unsupported("hidden_act", "silu, gelu, gelu_new or gelu_pytorch_tanh");
}

absl::StatusOr<int64_t> ParseHeadDim(const ConfigReader& config, int64_t hidden_size, int64_t heads,
                                     int64_t fallback) {
  if (config.Has("head_dim") || fallback > 0)
    return config.IntOr("head_dim", 2, kMaxHeadDim, fallback);
  if (hidden_size % heads == 0) return hidden_size / heads;
  return config.Wrong("hidden_size", absl::StrCat("a multiple of num_attention_heads, ", heads));
}

absl::StatusOr<AttentionSpec> ParseAttention(const ConfigReader& config, int64_t hidden_size,
                                             const DenseDefaults& defaults) {
  AttentionSpec attention;
  CCOE_ASSIGN_OR_RETURN(attention.heads, config.Int("num_attention_heads", 1, kMaxHeads));
  CCOE_ASSIGN_OR_RETURN(attention.kv_heads,
                        config.IntOr("num_key_value_heads", 1, kMaxHeads, attention.heads));
  if (attention.heads % attention.kv_heads != 0) {
    return config.Wrong("num_key_value_heads",
                        absl::StrCat("a divisor of num_attention_heads, ", attention.heads));
  }
  CCOE_ASSIGN_OR_RETURN(attention.head_dim,
                        ParseHeadDim(config, hidden_size, attention.heads, defaults.head_dim));
  if (attention.head_dim % 2 != 0) {
    return config.Wrong("head_dim", absl::StrCat("an even number (here ", attention.head_dim, ")"));
  }
  attention.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(attention.head_dim)));
  return attention;
}

}  // namespace

absl::StatusOr<ModelSpec> ParseModel(const ConfigReader& config, const DenseDefaults& defaults) {
  if (config.Has("quantization_config")) {
    return config.Unsupported("quantization_config", "weights in f32, f16 or bf16");
  }
  ModelSpec spec;
  CCOE_ASSIGN_OR_RETURN(spec.vocab_size, config.Int("vocab_size", 1, kMaxVocabulary));
  CCOE_ASSIGN_OR_RETURN(spec.hidden_size, config.Int("hidden_size", 1, kMaxWidth));
  CCOE_ASSIGN_OR_RETURN(spec.max_positions, config.IntOr("max_position_embeddings", 1,
                                                         kMaxPositions, defaults.max_positions));
  CCOE_ASSIGN_OR_RETURN(const double norm_eps,
                        config.PositiveOr("rms_norm_eps", defaults.norm_eps));
  if (norm_eps >= 1.0) return config.Wrong("rms_norm_eps", "a number below 1");
  spec.norm_eps = static_cast<float>(norm_eps);
  CCOE_ASSIGN_OR_RETURN(spec.tied_head, config.BoolOr("tie_word_embeddings", defaults.tied_head));
  CCOE_ASSIGN_OR_RETURN(spec.rope, ParseRope(config, defaults.rope_theta));

  LayerSpec layer;
  CCOE_ASSIGN_OR_RETURN(layer.ffn.activation, ParseActivation(config, defaults.activation));
  CCOE_ASSIGN_OR_RETURN(const int64_t layers, config.Int("num_hidden_layers", 1, kMaxLayers));
  spec.layers.assign(static_cast<size_t>(layers), layer);
  return spec;
}

absl::StatusOr<ModelSpec> ParseDense(const ConfigReader& config, const DenseDefaults& defaults) {
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, ParseModel(config, defaults));
  CCOE_ASSIGN_OR_RETURN(const AttentionSpec attention,
                        ParseAttention(config, spec.hidden_size, defaults));
  CCOE_ASSIGN_OR_RETURN(const int64_t intermediate, config.Int("intermediate_size", 1, kMaxWidth));
  for (LayerSpec& layer : spec.layers) {
    layer.attention = attention;
    layer.ffn.intermediate = intermediate;
  }
  return spec;
}

absl::Status ApplySlidingWindow(const ConfigReader& config, SlidingWindow window, ModelSpec& spec) {
  CCOE_ASSIGN_OR_RETURN(const std::vector<std::string> types, config.Strings("layer_types"));
  if (!types.empty() && types.size() != spec.layers.size()) {
    return config.Wrong("layer_types", absl::StrCat(spec.layers.size(), " entries, one a layer"));
  }
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    bool slides = static_cast<int64_t>(i) >= window.first_layer && window.tokens > 0;
    if (!types.empty()) {
      slides = types[i] == "sliding_attention";
      if (!slides && types[i] != "full_attention") {
        return config.Wrong("layer_types", "full_attention or sliding_attention in each place");
      }
      if (slides && window.tokens == 0) {
        return config.Wrong("layer_types",
                            "no sliding_attention, since there is no sliding window");
      }
    }
    spec.layers[i].attention.sliding_window = slides ? window.tokens : 0;
  }
  return absl::OkStatus();
}

absl::StatusOr<SlidingWindow> ParseOptionalWindow(const ConfigReader& config) {
  CCOE_ASSIGN_OR_RETURN(const bool used, config.BoolOr("use_sliding_window", false));
  if (!used) return SlidingWindow{};
  SlidingWindow window;
  CCOE_ASSIGN_OR_RETURN(window.tokens, config.Int("sliding_window", 1, kMaxPositions));
  CCOE_ASSIGN_OR_RETURN(window.first_layer, config.Int("max_window_layers", 0, kMaxPositions));
  return window;
}

// attention_bias covers all four projections, mlp_bias all three.
absl::StatusOr<ModelSpec> ParseLlama(const ConfigReader& config) {
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, ParseDense(config, DenseDefaults{}));
  spec.family = "llama";
  CCOE_ASSIGN_OR_RETURN(const bool attention_bias, config.BoolOr("attention_bias", false));
  CCOE_ASSIGN_OR_RETURN(const bool mlp_bias, config.BoolOr("mlp_bias", false));
  for (LayerSpec& layer : spec.layers) {
    layer.attention.qkv_bias = attention_bias;
    layer.attention.output_bias = attention_bias;
    layer.ffn.bias = mlp_bias;
  }
  return spec;
}

// sliding_window counts the row itself and holds in all layers; null means full attention, and a
// config that does not name it means 4096, as in the family's configuration class.
absl::StatusOr<ModelSpec> ParseMistral(const ConfigReader& config) {
  constexpr int64_t kDefaultWindow = 4096;
  DenseDefaults defaults;
  defaults.max_positions = 131072;
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, ParseDense(config, defaults));
  spec.family = "mistral";
  if (config.IsNull("sliding_window")) return spec;
  CCOE_ASSIGN_OR_RETURN(const int64_t window,
                        config.IntOr("sliding_window", 1, kMaxPositions, kDefaultWindow));
  for (LayerSpec& layer : spec.layers) layer.attention.sliding_window = window;
  return spec;
}

// q, k and v always have a bias, the output projection never.
absl::StatusOr<ModelSpec> ParseQwen2(const ConfigReader& config) {
  DenseDefaults defaults;
  defaults.max_positions = 32768;
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, ParseDense(config, defaults));
  spec.family = "qwen2";
  for (LayerSpec& layer : spec.layers) layer.attention.qkv_bias = true;
  CCOE_ASSIGN_OR_RETURN(const SlidingWindow window, ParseOptionalWindow(config));
  CCOE_RETURN_IF_ERROR(ApplySlidingWindow(config, window, spec));
  return spec;
}

// q and k are normed head by head before rope; attention_bias covers all four projections.
absl::StatusOr<ModelSpec> ParseQwen3(const ConfigReader& config) {
  DenseDefaults defaults;
  defaults.max_positions = 32768;
  defaults.head_dim = 128;
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, ParseDense(config, defaults));
  spec.family = "qwen3";
  CCOE_ASSIGN_OR_RETURN(const bool attention_bias, config.BoolOr("attention_bias", false));
  for (LayerSpec& layer : spec.layers) {
    layer.attention.qk_norm = QkNorm::kPerHead;
    layer.attention.qkv_bias = attention_bias;
    layer.attention.output_bias = attention_bias;
  }
  CCOE_ASSIGN_OR_RETURN(const SlidingWindow window, ParseOptionalWindow(config));
  CCOE_RETURN_IF_ERROR(ApplySlidingWindow(config, window, spec));
  return spec;
}

}  // namespace ccoe::model
