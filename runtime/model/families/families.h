// The families of models: one parser function each, from config.json to ModelSpec.
#ifndef CCOE_RUNTIME_MODEL_FAMILIES_FAMILIES_H_
#define CCOE_RUNTIME_MODEL_FAMILIES_FAMILIES_H_

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/model/families/config_reader.h"
#include "runtime/model/model_spec.h"

namespace ccoe::model {

// Sets everything but the token ids, which LoadModelSpec reads for all families alike.
// INVALID_ARGUMENT names the key, UNIMPLEMENTED the feature.
using FamilyParser = absl::StatusOr<ModelSpec> (*)(const ConfigReader& config);

absl::StatusOr<ModelSpec> ParseDeepseek(const ConfigReader& config);
absl::StatusOr<ModelSpec> ParseDeepseekV2(const ConfigReader& config);
absl::StatusOr<ModelSpec> ParseDeepseekV3(const ConfigReader& config);
absl::StatusOr<ModelSpec> ParseGrok(const ConfigReader& config);
absl::StatusOr<ModelSpec> ParseGrokPort(const ConfigReader& config);
absl::StatusOr<ModelSpec> ParseLlama(const ConfigReader& config);
absl::StatusOr<ModelSpec> ParseMistral(const ConfigReader& config);
absl::StatusOr<ModelSpec> ParseMixtral(const ConfigReader& config);
absl::StatusOr<ModelSpec> ParseOlmoe(const ConfigReader& config);
absl::StatusOr<ModelSpec> ParseQwen2(const ConfigReader& config);
absl::StatusOr<ModelSpec> ParseQwen2Moe(const ConfigReader& config);
absl::StatusOr<ModelSpec> ParseQwen3(const ConfigReader& config);
absl::StatusOr<ModelSpec> ParseQwen3Moe(const ConfigReader& config);

struct Family {
  const char* architecture;  // as in config.json's "architectures"
  const char* model_type;    // as in config.json's "model_type"
  FamilyParser parse;
};

// All of them. A new family is a line here and a file beside this one.
absl::Span<const Family> Families();

}  // namespace ccoe::model

#endif  // CCOE_RUNTIME_MODEL_FAMILIES_FAMILIES_H_
