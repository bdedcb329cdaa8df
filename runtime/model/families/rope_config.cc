#include "runtime/model/families/rope_config.h"

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"

namespace ccoe::model {
namespace {

constexpr int64_t kMaxPositions = int64_t{1} << 30;

// The scaling's name: "default" where nothing is said.
absl::StatusOr<std::string> ScalingType(const ConfigReader& parameters) {
  CCOE_ASSIGN_OR_RETURN(const std::string old_name, parameters.StringOr("type", ""));
  CCOE_ASSIGN_OR_RETURN(const std::string type, parameters.StringOr("rope_type", old_name));
  if (!old_name.empty() && old_name != type) {
    return parameters.Wrong("type", absl::StrCat("the rope_type, \"", type, "\""));
  }
  return type.empty() ? "default" : type;
}

// A number that has to be there.
absl::StatusOr<double> Required(const ConfigReader& parameters, absl::string_view key) {
  if (!parameters.Has(key)) return parameters.Wrong(key, "a number > 0");
  return parameters.PositiveOr(key, 1.0);
}

absl::StatusOr<double> Factor(const ConfigReader& parameters) {
  CCOE_ASSIGN_OR_RETURN(const double factor, Required(parameters, "factor"));
  if (factor < 1.0) return parameters.Wrong("factor", "a number >= 1");
  return factor;
}

absl::Status ParseScaling(const ConfigReader& parameters, RopeSpec& rope) {
  CCOE_ASSIGN_OR_RETURN(const std::string type, ScalingType(parameters));
  if (type == "default") return absl::OkStatus();
  if (type == "linear") {
    rope.scaling = RopeScaling::kLinear;
    CCOE_ASSIGN_OR_RETURN(rope.factor, Factor(parameters));
    return absl::OkStatus();
  }
  if (type != "llama3") {
    return absl::UnimplementedError(
        parameters
            .Wrong(parameters.Has("rope_type") ? "rope_type" : "type", "default, linear or llama3")
            .message());
  }
  rope.scaling = RopeScaling::kLlama3;
  CCOE_ASSIGN_OR_RETURN(rope.factor, Factor(parameters));
  CCOE_ASSIGN_OR_RETURN(rope.low_freq_factor, Required(parameters, "low_freq_factor"));
  CCOE_ASSIGN_OR_RETURN(rope.high_freq_factor, Required(parameters, "high_freq_factor"));
  CCOE_ASSIGN_OR_RETURN(rope.original_max_positions,
                        parameters.Int("original_max_position_embeddings", 1, kMaxPositions));
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    return parameters.Wrong("high_freq_factor",
                            absl::StrCat("more than low_freq_factor, ", rope.low_freq_factor));
  }
  return absl::OkStatus();
}

absl::Status RefusePartialRotary(const ConfigReader& keys) {
  CCOE_ASSIGN_OR_RETURN(const double share, keys.PositiveOr("partial_rotary_factor", 1.0));
  if (share == 1.0) return absl::OkStatus();
  return absl::UnimplementedError(keys.Wrong("partial_rotary_factor", "1").message());
}

}  // namespace

absl::StatusOr<RopeSpec> ParseRope(const ConfigReader& config, double default_theta) {
  RopeSpec rope;
  CCOE_RETURN_IF_ERROR(RefusePartialRotary(config));
  CCOE_ASSIGN_OR_RETURN(rope.theta, config.PositiveOr("rope_theta", default_theta));
  CCOE_ASSIGN_OR_RETURN(const std::optional<ConfigReader> scaling, config.Object("rope_scaling"));
  CCOE_ASSIGN_OR_RETURN(const std::optional<ConfigReader> parameters,
                        config.Object("rope_parameters"));
  if (scaling) CCOE_RETURN_IF_ERROR(ParseScaling(*scaling, rope));
  if (!parameters) return rope;

  for (const char* layer_type : {"full_attention", "sliding_attention"}) {
    if (parameters->Has(layer_type)) {
      return absl::UnimplementedError(
          parameters->Wrong(layer_type, "one set of parameters for all layers").message());
    }
  }
  CCOE_RETURN_IF_ERROR(RefusePartialRotary(*parameters));
  RopeSpec newer;
  CCOE_ASSIGN_OR_RETURN(newer.theta, parameters->PositiveOr("rope_theta", rope.theta));
  CCOE_RETURN_IF_ERROR(ParseScaling(*parameters, newer));
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
