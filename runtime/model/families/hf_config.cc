// SPDX-License-Identifier: Apache-2.0
#include "runtime/model/families/hf_config.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/families/config_reader.h"
#include "runtime/model/families/deepseek.h"
#include "runtime/model/families/dense.h"
#include "runtime/model/families/moe.h"

namespace ccoe::model {
namespace {

constexpr int64_t kMaxConfigBytes = 16'000'000;

std::string SupportedArchitectures() {
  return absl::StrJoin(Families(), ", ",
                       [](std::string* out, const Family& family) { *out += family.architecture; });
}

// By the first of "architectures", else by "model_type"; where both stand they must agree.
absl::StatusOr<const Family*> FindFamily(const ConfigReader& config) {
  CCOE_ASSIGN_OR_RETURN(const std::vector<std::string> architectures,
                        config.Strings("architectures"));
  CCOE_ASSIGN_OR_RETURN(const std::string model_type, config.StringOr("model_type", ""));
  for (const Family& family : Families()) {
    if (architectures.empty() ? model_type != family.model_type
                              : architectures[0] != family.architecture)
      continue;
    if (!model_type.empty() && model_type != family.model_type) {
      return config.Wrong("model_type",
                          absl::StrCat("\"", family.model_type, "\" with ", family.architecture));
    }
    return &family;
  }
  return config.Unsupported(architectures.empty() ? "model_type" : "architectures",
                            SupportedArchitectures());
}

// Adds what `config` says about the begin and end of a text.
absl::Status AddTokenIds(const ConfigReader& config, ModelSpec& spec) {
  CCOE_ASSIGN_OR_RETURN(const std::vector<int32_t> eos,
                        config.TokenIds("eos_token_id", spec.vocab_size));
  for (const int32_t id : eos) {
    const auto& known = spec.eos_token_ids;
    if (std::find(known.begin(), known.end(), id) == known.end()) spec.eos_token_ids.push_back(id);
  }
  CCOE_ASSIGN_OR_RETURN(const std::vector<int32_t> bos,
                        config.TokenIds("bos_token_id", spec.vocab_size));
  if (spec.bos_token_id < 0 && !bos.empty()) spec.bos_token_id = bos[0];
  return absl::OkStatus();
}

absl::StatusOr<nlohmann::json> ReadObject(const std::string& path) {
  CCOE_ASSIGN_OR_RETURN(nlohmann::json object, ReadJsonFile(path, kMaxConfigBytes));
  if (!object.is_object())
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected a JSON object"));
  return object;
}

absl::StatusOr<ModelSpec> ParseConfig(const nlohmann::json& object) {
  const ConfigReader config(object);
  CCOE_ASSIGN_OR_RETURN(const Family* family, FindFamily(config));
  CCOE_ASSIGN_OR_RETURN(ModelSpec spec, family->parse(config));
  CCOE_RETURN_IF_ERROR(AddTokenIds(config, spec));
  return spec;
}

}  // namespace

// A new family is a line here, and its parser beside its nearest kin or in a file of its own.
absl::Span<const Family> Families() {
  static constexpr Family kFamilies[] = {
      {"LlamaForCausalLM", "llama", ParseLlama},
      {"MistralForCausalLM", "mistral", ParseMistral},
      {"Qwen2ForCausalLM", "qwen2", ParseQwen2},
      {"Qwen3ForCausalLM", "qwen3", ParseQwen3},
      {"MixtralForCausalLM", "mixtral", ParseMixtral},
      {"DeepseekForCausalLM", "deepseek", ParseDeepseek},
      {"DeepseekV2ForCausalLM", "deepseek_v2", ParseDeepseekV2},
      {"DeepseekV3ForCausalLM", "deepseek_v3", ParseDeepseekV3},
      {"GrokForCausalLM", "grok", ParseGrok},
      {"Grok1ModelForCausalLM", "grok-1", ParseGrokPort},
      {"Qwen2MoeForCausalLM", "qwen2_moe", ParseQwen2Moe},
      {"Qwen3MoeForCausalLM", "qwen3_moe", ParseQwen3Moe},
      {"OlmoeForCausalLM", "olmoe", ParseOlmoe},
  };
  return kFamilies;
}

absl::StatusOr<ModelSpec> LoadModelSpec(const std::string& folder) {
  const std::string config_path = folder + "/config.json";
  CCOE_ASSIGN_OR_RETURN(const nlohmann::json config, ReadObject(config_path));
  auto spec = ParseConfig(config);
  if (!spec.ok()) return Annotate(spec.status(), config_path);

  const std::string generation_path = folder + "/generation_config.json";
  if (FileExists(generation_path)) {
    CCOE_ASSIGN_OR_RETURN(const nlohmann::json generation, ReadObject(generation_path));
    CCOE_RETURN_IF_ERROR_IN(AddTokenIds(ConfigReader(generation), *spec), generation_path);
  }
  CCOE_RETURN_IF_ERROR_IN(Validate(*spec), config_path);
  return spec;
}

}  // namespace ccoe::model
