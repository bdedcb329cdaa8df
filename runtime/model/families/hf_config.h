// SPDX-License-Identifier: Apache-2.0
// Hugging Face config.json (and generation_config.json) to ModelSpec: one parser function a family.
#ifndef CCOE_RUNTIME_MODEL_FAMILIES_HF_CONFIG_H_
#define CCOE_RUNTIME_MODEL_FAMILIES_HF_CONFIG_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/model/model_spec.h"

namespace ccoe::model {

class ConfigReader;

// Reads FOLDER/config.json, in the classic key names (rope_theta, torch_dtype) or those of
// transformers 5 (rope_parameters, dtype), and generation_config.json where there is one; the
// result passed Validate. NOT_FOUND (no file), INVALID_ARGUMENT (names the key, expected, found),
// UNIMPLEMENTED (names the architecture or feature).
absl::StatusOr<ModelSpec> LoadModelSpec(const std::string& folder);

// Sets everything but the token ids, which LoadModelSpec reads for all families alike.
// INVALID_ARGUMENT names the key, UNIMPLEMENTED the feature.
using FamilyParser = absl::StatusOr<ModelSpec> (*)(const ConfigReader& config);

struct Family {
  const char* architecture;  // as in config.json's "architectures"
  const char* model_type;    // as in config.json's "model_type"
  FamilyParser parse;
};

// All of them.
absl::Span<const Family> Families();

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_FAMILIES_HF_CONFIG_H_
