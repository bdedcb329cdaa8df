// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/families/dense.h"

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace ccoe::model {
namespace {

// The scaling's name: "default" where nothing is said.
absl::StatusOr<std::string> ScalingType(const ConfigReader& parameters) {
  CCOE_ASSIGN_OR_RETURN(const std::string old_name, parameters.StringOr("type", ""));
  CCOE_ASSIGN_OR_RETURN(const std::string type, parameters.StringOr("rope_type", old_name));
  if (!old_name.empty() && old_name != type) {
    return parameters.Wrong("type", absl::StrCat("the rope_type, \"", type, "\""));
  }
  return type.empty() ? "default" : type;
}

absl::StatusOr<double> Factor(const ConfigReader& parameters) {
  CCOE_ASSIGN_OR_RETURN(const double factor, parameters.Positive("factor"));
  if (factor < 1.0) return parameters.Wrong("factor", "a number >= 1");
  return factor;
}

absl::Status ParseLlama3(const ConfigReader& parameters, RopeSpec& rope) {
  rope.scaling = RopeScaling::kLlama3;
  CCOE_ASSIGN_OR_RETURN(rope.factor, Factor(parameters));
  CCOE_ASSIGN_OR_RETURN(rope.low_freq_factor, parameters.Positive("low_freq_factor"));
  CCOE_ASSIGN_OR_RETURN(rope.high_freq_factor, parameters.Positive("high_freq_factor"));
  CCOE_ASSIGN_OR_RETURN(rope.original_max_positions,
                        parameters.Int("original_max_position_embeddings", 1, kMaxPositions));
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    return parameters.Wrong("high_freq_factor",
                            absl::StrCat("more than low_freq_factor, ", rope.low_freq_factor));
  }
  return absl::OkStatus();
}

// The magnitude of cos and sin. With mscale and mscale_all_dim (DeepSeek) the latter's share is
// left to the attention's scale.
absl::StatusOr<double> AttentionFactor(const ConfigReader& parameters, double factor) {
  CCOE_ASSIGN_OR_RETURN(const double mscale, parameters.NonNegativeOr("mscale", 0.0));
  CCOE_ASSIGN_OR_RETURN(const double all_dim, parameters.NonNegativeOr("mscale_all_dim", 0.0));
  const double fallback = mscale > 0.0 && all_dim > 0.0
                              ? YarnMagnitude(factor, mscale) / YarnMagnitude(factor, all_dim)
                              : YarnMagnitude(factor, 1.0);
  return parameters.PositiveOr("attention_factor", fallback);
}

absl::Status ParseYarn(const ConfigReader& config, const ConfigReader& parameters, RopeSpec& rope) {
  rope.scaling = RopeScaling::kYarn;
  CCOE_ASSIGN_OR_RETURN(rope.factor, Factor(parameters));
  const char* const original = "original_max_position_embeddings";
  if (parameters.Has(original)) {
    CCOE_ASSIGN_OR_RETURN(rope.original_max_positions, parameters.Int(original, 1, kMaxPositions));
  } else {
    CCOE_ASSIGN_OR_RETURN(rope.original_max_positions,
                          config.Int("max_position_embeddings", 1, kMaxPositions));
  }
  CCOE_ASSIGN_OR_RETURN(rope.beta_fast, parameters.PositiveOr("beta_fast", 32.0));
  CCOE_ASSIGN_OR_RETURN(rope.beta_slow, parameters.PositiveOr("beta_slow", 1.0));
  if (rope.beta_fast < rope.beta_slow) {
    return parameters.Wrong("beta_fast", absl::StrCat("at least beta_slow, ", rope.beta_slow));
  }
  CCOE_ASSIGN_OR_RETURN(rope.attention_factor, AttentionFactor(parameters, rope.factor));
  CCOE_ASSIGN_OR_RETURN(const bool truncate, parameters.BoolOr("truncate", true));
  if (!truncate) return parameters.Unsupported("truncate", "true");
  return absl::OkStatus();
}

// `parameters` is an object of `config`.
absl::Status ParseScaling(const ConfigReader& config, const ConfigReader& parameters,
                          RopeSpec& rope) {
  CCOE_ASSIGN_OR_RETURN(const std::string type, ScalingType(parameters));
  if (type == "default") return absl::OkStatus();
  if (type == "llama3") return ParseLlama3(parameters, rope);
  if (type == "yarn") return ParseYarn(config, parameters, rope);
  if (type != "linear") {
    return parameters.Unsupported(parameters.Has("rope_type") ? "rope_type" : "type",
                                  "default, linear, llama3 or yarn");
  }
  rope.scaling = RopeScaling::kLinear;
  CCOE_ASSIGN_OR_RETURN(rope.factor, Factor(parameters));
  return absl::OkStatus();
}

absl::Status RefusePartialRotary(const ConfigReader& keys) {
  CCOE_ASSIGN_OR_RETURN(const double share, keys.PositiveOr("partial_rotary_factor", 1.0));
  if (share == 1.0) return absl::OkStatus();
  return keys.Unsupported("partial_rotary_factor", "1");
}

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

double YarnMagnitude(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

absl::StatusOr<double> ParseMscaleAllDim(const ConfigReader& config) {
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    CCOE_ASSIGN_OR_RETURN(const std::optional<ConfigReader> parameters, config.Object(key));
    if (parameters) return parameters->NonNegativeOr("mscale_all_dim", 0.0);
  }
  return 0.0;
}

absl::StatusOr<RopeSpec> ParseRope(const ConfigReader& config, double default_theta) {
  RopeSpec rope;
  CCOE_RETURN_IF_ERROR(RefusePartialRotary(config));
  CCOE_ASSIGN_OR_RETURN(rope.theta, config.PositiveOr("rope_theta", default_theta));
  CCOE_ASSIGN_OR_RETURN(const std::optional<ConfigReader> scaling, config.Object("rope_scaling"));
  CCOE_ASSIGN_OR_RETURN(const std::optional<ConfigReader> parameters,
                        config.Object("rope_parameters"));
  if (scaling) CCOE_RETURN_IF_ERROR(ParseScaling(config, *scaling, rope));
  if (!parameters) return rope;

  for (const char* layer_type : {"full_attention", "sliding_attention"}) {
    if (parameters->Has(layer_type)) {
      return parameters->Unsupported(layer_type, "one set of parameters for all layers");
    }
  }
  CCOE_RETURN_IF_ERROR(RefusePartialRotary(*parameters));
  RopeSpec newer;
  CCOE_ASSIGN_OR_RETURN(newer.theta, parameters->PositiveOr("rope_theta", rope.theta));
  CCOE_RETURN_IF_ERROR(ParseScaling(config, *parameters, newer));
  if (config.Has("rope_theta") && newer.theta != rope.theta) {
    return parameters->Wrong("rope_theta",
                             absl::StrCat("what the key rope_theta says, ", rope.theta));
  }
  if (scaling && (newer.scaling != rope.scaling || newer.factor != rope.factor)) {
    return parameters->Wrong("rope_type", "what the key rope_scaling says");
  }
  return newer;
}

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
