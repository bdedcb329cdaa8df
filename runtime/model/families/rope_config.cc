#include "runtime/model/families/rope_config.h"

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>

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

}  // namespace ccoe::model
