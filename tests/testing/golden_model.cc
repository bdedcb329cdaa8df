// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/golden_model.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "runtime/base/check.h"
#include "runtime/base/json.h"
#include "runtime/base/status_macros.h"

namespace ccoe::testing {

std::string GoldenFolder(const std::string& name) { return "tests/golden/models/" + name; }

absl::StatusOr<std::vector<float>> GoldenModel::Array(const std::string& name) const {
  const auto found = arrays->tensors().find(name);
  if (found == arrays->tensors().end() || found->second.dtype != kernels::DType::kF32) {
    return absl::NotFoundError(absl::StrCat(arrays->path(), ": expected an f32 array ", name));
  }
  const auto* data = static_cast<const float*>(found->second.data);
  return std::vector<float>(data, data + found->second.size_bytes / sizeof(float));
}

absl::StatusOr<std::vector<int64_t>> GoldenModel::IntArray(const std::string& name) const {
  const auto found = arrays->tensors().find(name);
  if (found == arrays->tensors().end() || found->second.dtype != kernels::DType::kI64) {
    return absl::NotFoundError(absl::StrCat(arrays->path(), ": expected an i64 array ", name));
  }
  const auto* data = static_cast<const int64_t*>(found->second.data);
  return std::vector<int64_t>(data, data + found->second.size_bytes / sizeof(int64_t));
}

absl::StatusOr<GoldenModel> LoadGolden(const std::string& name) {
  GoldenModel golden;
  golden.folder = GoldenFolder(name);
  CCOE_ASSIGN_OR_RETURN(const nlohmann::json json,
                        ReadJsonFile(golden.folder + "/golden.json", 1'000'000));
  golden.hidden_prompt = json.at("hidden").at("prompt").get<std::string>();
  for (const auto& prompt : json.at("prompts")) {
    golden.prompts.push_back(
        {prompt.at("id").get<std::string>(), prompt.at("ids").get<std::vector<int32_t>>(),
         prompt.at("greedy_ids").get<std::vector<int32_t>>(), prompt.at("text").get<std::string>(),
         prompt.at("greedy_text").get<std::string>()});
  }
  CCOE_ASSIGN_OR_RETURN(golden.arrays,
                        model::SafetensorsFile::Open(golden.folder + "/golden.safetensors"));
  return golden;
}

const std::vector<std::string>& DenseModels() {
  static const auto* const models = new std::vector<std::string>{
      "llama-gqa", "llama3-rope-tied", "mistral-swa", "qwen2-tied", "ccoe/backbone"};
  return *models;
}

const std::vector<std::string>& MoeModels() {
  static const auto* const models =
      new std::vector<std::string>{"deepseek-v1-moe", "deepseek-v2", "deepseek-v3",     "grok1",
                                   "mixtral-8x2",     "olmoe",       "qwen2moe-shared", "qwen3moe"};
  return *models;
}

// Grok's attention logits are large, and with them the reference's own rounding.
double GoldenTolerance(const std::string& name) { return name == "grok1" ? 3e-3 : 1e-3; }

const std::vector<std::string>& GoldenExperts() {
  static const auto* const experts =
      new std::vector<std::string>{"code", "math", "law", "sql", "medical"};
  return *experts;
}

std::vector<GoldenPrompt> ReadGoldenPrompts(const std::string& name) {
  absl::StatusOr<GoldenModel> golden = LoadGolden(name);
  CCOE_CHECK(golden.ok());
  return std::move(golden->prompts);
}

}  // namespace ccoe::testing
