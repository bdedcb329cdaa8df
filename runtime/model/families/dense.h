// SPDX-License-Identifier: Apache-2.0
// What the configs of decoder-only models have in common, their rotary embedding and their layers,
// and the dense families.
#ifndef CCOE_RUNTIME_MODEL_FAMILIES_DENSE_H_
#define CCOE_RUNTIME_MODEL_FAMILIES_DENSE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/model/families/config_reader.h"
#include "runtime/model/model_spec.h"

namespace ccoe::model {

// From rope_theta and rope_scaling {type or rope_type, ...}, or from rope_parameters {rope_theta,
// rope_type, ...}. Values that stand in both must agree. UNIMPLEMENTED for a scaling other than
// default, linear, llama3 and yarn, for rotary dimensions smaller than the head and for parameters
// by layer type.
absl::StatusOr<RopeSpec> ParseRope(const ConfigReader& config, double default_theta);

// YaRN's correction of magnitudes for positions stretched by `factor`: 0.1 mscale ln(factor) + 1.
double YarnMagnitude(double factor, double mscale);

// mscale_all_dim of the rotary parameters, 0 where they do not have it.
absl::StatusOr<double> ParseMscaleAllDim(const ConfigReader& config);

// Values a family's configuration class takes where config.json is silent.
struct DenseDefaults {
  int64_t head_dim = 0;  // 0: hidden_size / num_attention_heads
  double norm_eps = 1e-6;
  int64_t max_positions = 2048;
  double rope_theta = 10000.0;
  const char* activation = "silu";
  bool tied_head = false;
};

// Sizes, norms, rope, tied head, and as many layers as num_hidden_layers says, of which nothing is
// set but the activation.
absl::StatusOr<ModelSpec> ParseModel(const ConfigReader& config, const DenseDefaults& defaults);

// ParseModel with equal layers: full attention, no biases, no norm on q and k, feed-forward blocks
// of intermediate_size. The family then changes what it does otherwise.
absl::StatusOr<ModelSpec> ParseDense(const ConfigReader& config, const DenseDefaults& defaults);

struct SlidingWindow {
  int64_t tokens = 0;  // a row sees this many tokens, itself included; 0: all
  int64_t first_layer = 0;
};

// The window as Qwen's configs say it: sliding_window from layer max_window_layers on, only if
// use_sliding_window.
absl::StatusOr<SlidingWindow> ParseOptionalWindow(const ConfigReader& config);

// Gives the window to the layers that layer_types calls "sliding_attention" where the config has
// that list, else to those from window.first_layer on.
absl::Status ApplySlidingWindow(const ConfigReader& config, SlidingWindow window, ModelSpec& spec);

// The parsers of the table in hf_config.cc.
absl::StatusOr<ModelSpec> ParseLlama(const ConfigReader& config);
absl::StatusOr<ModelSpec> ParseMistral(const ConfigReader& config);
absl::StatusOr<ModelSpec> ParseQwen2(const ConfigReader& config);
absl::StatusOr<ModelSpec> ParseQwen3(const ConfigReader& config);

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_FAMILIES_DENSE_H_
