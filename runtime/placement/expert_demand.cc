// SPDX-License-Identifier: Apache-2.0
#include "runtime/placement/expert_demand.h"

#include <cmath>
#include <numeric>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/model_spec.h"
#include "runtime/model/weights.h"

namespace ccoe::placement {
namespace {

constexpr int64_t kMaxConfigBytes = 16'000'000;

// The tensors of a folder that has some; null where it has config.json alone.
absl::StatusOr<std::shared_ptr<const model::Weights>> OpenIfThere(const std::string& folder) {
  auto weights = model::Weights::Open(folder);
  if (absl::IsNotFound(weights.status())) return std::shared_ptr<const model::Weights>();
  return weights;
}

absl::StatusOr<kernels::DType> DTypeOfConfig(const std::string& path) {
  CCOE_ASSIGN_OR_RETURN(const nlohmann::json config, ReadJsonFile(path, kMaxConfigBytes));
  for (const char* key : {"torch_dtype", "dtype"}) {
    const auto found = config.find(key);
    if (found == config.end() || found->is_null()) continue;
    const std::string name = found->is_string() ? found->get<std::string>() : found->dump();
    if (name == "float32") return kernels::DType::kF32;
    if (name == "float16") return kernels::DType::kF16;
    if (name == "bfloat16") return kernels::DType::kBF16;
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": ", key, ": expected float32, float16 or bfloat16, found ", name.substr(0, 40)));
  }
  return kernels::DType::kF32;
}

constexpr int64_t kMaxLoadsBytes = 64 << 20;

// One entry of "layers".
absl::Status AddLayer(const nlohmann::json& entry, absl::string_view where, ExpertLoads* loads) {
  const auto wrong = [&](absl::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": layers[", loads->tokens.size(), "]: ", what));
  };
  if (!entry.is_object() || !entry.contains("layer") || !entry["layer"].is_number_unsigned() ||
      !entry.contains("tokens") || !entry["tokens"].is_array()) {
    return wrong("expected {\"layer\": NUMBER, \"tokens\": [NUMBER, ...]}");
  }
  const auto layer = entry["layer"].get<uint64_t>();
  if (layer > 1'000'000) return wrong("layer: expected the number of a layer");
  std::vector<double> tokens;
  for (const nlohmann::json& count : entry["tokens"]) {
    if (!count.is_number()) return wrong("tokens: expected numbers");
    tokens.push_back(count.get<double>());
  }
  if (!loads->tokens.emplace(static_cast<int32_t>(layer), std::move(tokens)).second) {
    return wrong(absl::StrCat("layer ", layer, " stands twice"));
  }
  return absl::OkStatus();
}

}  // namespace

int64_t ExpertBytes(const model::ModelSpec& spec, int32_t layer, kernels::DType dtype) {
  const model::FfnSpec& ffn = spec.layers[static_cast<size_t>(layer)].ffn;
  if (!ffn.is_moe()) return 0;
  return 3 * spec.hidden_size * ffn.moe.intermediate *
         static_cast<int64_t>(kernels::DTypeBytes(dtype));
}

int64_t ShardSize::bytes() const {
  int64_t sum = 0;
  for (const auto& [bytes, count] : experts_of_bytes) sum += bytes * count;
  return sum;
}

std::string ShardSize::ToString() const {
  if (experts_of_bytes.empty()) return "0 bytes";
  return absl::StrCat(absl::StrJoin(experts_of_bytes, " + ",
                                    [](std::string* out, const auto& part) {
                                      absl::StrAppend(out, part.second, " x ", part.first);
                                    }),
                      " = ", bytes(), " bytes");
}

ShardSize SizeOf(const model::ModelSpec& spec, const model::FfnShard& shard, kernels::DType dtype) {
  ShardSize size;
  for (const auto& [layer, experts] : shard.layers()) {
    size.experts_of_bytes[ExpertBytes(spec, layer, dtype)] += static_cast<int64_t>(experts.size());
  }
  return size;
}

absl::StatusOr<kernels::DType> ExpertDType(const model::ModelSpec& spec,
                                           const std::string& folder) {
  CCOE_ASSIGN_OR_RETURN(const auto weights, OpenIfThere(folder));
  const model::FfnShard all = model::FfnShard::All(spec);
  if (weights != nullptr && !all.empty()) {
    const auto& [layer, experts] = *all.layers().begin();
    const std::string name = model::WeightName(
        model::ExpertPrefix(spec.names, layer, *experts.begin()) + spec.names.expert_gate);
    if (weights->Has(name)) {
      CCOE_ASSIGN_OR_RETURN(const model::TensorView tensor, weights->Raw(name));
      return tensor.dtype;
    }
  }
  return DTypeOfConfig(folder + "/config.json");
}

std::vector<double> ExpertLoads::Shares(const model::ModelSpec& spec, int32_t layer) const {
  const auto experts = static_cast<size_t>(spec.layers[static_cast<size_t>(layer)].ffn.moe.experts);
  const auto found = tokens.find(layer);
  std::vector<double> shares(experts, 1.0);
  if (found != tokens.end()) shares = found->second;
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (double& share : shares) share = sum > 0 ? share / sum : 1.0 / static_cast<double>(experts);
  return shares;
}

absl::Status CheckLoads(const ExpertLoads& loads, const model::ModelSpec& spec) {
  for (const auto& [layer, tokens] : loads.tokens) {
    const bool moe = layer >= 0 && layer < spec.layer_count() &&
                     spec.layers[static_cast<size_t>(layer)].ffn.is_moe();
    const int64_t experts = moe ? spec.layers[static_cast<size_t>(layer)].ffn.moe.experts : 0;
    if (static_cast<int64_t>(tokens.size()) != experts) {
      return absl::InvalidArgumentError(absl::StrCat("expert loads: layer ", layer, ": expected ",
                                                     experts, " FFN experts, found ",
                                                     tokens.size()));
    }
    for (size_t expert = 0; expert < tokens.size(); ++expert) {
      if (std::isfinite(tokens[expert]) && tokens[expert] >= 0) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("expert loads: layer ", layer, ", expert ", expert,
                       ": expected a number of tokens, found ", tokens[expert]));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<ExpertLoads> ParseLoads(absl::string_view json, absl::string_view where) {
  CCOE_ASSIGN_OR_RETURN(const nlohmann::json object, ParseJson(json, where));
  if (!object.is_object() || !object.contains("layers") || !object["layers"].is_array()) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": expected an object with a list \"layers\""));
  }
  ExpertLoads loads;
  for (const nlohmann::json& entry : object["layers"]) {
    CCOE_RETURN_IF_ERROR(AddLayer(entry, where, &loads));
  }
  return loads;
}

absl::StatusOr<ExpertLoads> ReadLoads(const std::string& path) {
  CCOE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxLoadsBytes));
  return ParseLoads(text, path);
}

}  // namespace ccoe::placement
