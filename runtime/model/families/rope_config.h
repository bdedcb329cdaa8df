// The rotary embedding keys of config.json, classic and transformers 5.
#ifndef CCOE_RUNTIME_MODEL_FAMILIES_ROPE_CONFIG_H_
#define CCOE_RUNTIME_MODEL_FAMILIES_ROPE_CONFIG_H_

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

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_FAMILIES_ROPE_CONFIG_H_
