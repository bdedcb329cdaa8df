#include "runtime/placement/expert_loads.h"

#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/status_macros.h"

namespace ccoe::placement {
namespace {

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
