#include "services/cli/moe_report.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

namespace ccoe::cli {
namespace {

// Of the layer's rows, in percent.
double Percent(uint64_t count, const engine::LayerMoeCounts& layer) {
  return layer.rows == 0 ? 0.0
                         : 100.0 * static_cast<double>(count) / static_cast<double>(layer.rows);
}

std::string ExpertCell(std::vector<uint64_t>::const_iterator expert,
                       const engine::LayerMoeCounts& layer) {
  return absl::StrFormat("%d (%.1f %%)", expert - layer.tokens.begin(), Percent(*expert, layer));
}

std::string PairCell(const engine::LayerMoeCounts& layer) {
  const engine::ExpertPair pair = engine::MostCoActivated(layer);
  if (pair.rows == 0) return "-";
  return absl::StrFormat("%d + %d (%.1f %%)", pair.first, pair.second, Percent(pair.rows, layer));
}

void AppendLine(const engine::LayerMoeCounts& layer, std::string& out) {
  if (layer.rows == 0 || layer.tokens.empty()) {
    absl::StrAppendFormat(&out, "%5d %11d\n", layer.layer, layer.rows);
    return;
  }
  const auto coldest = std::min_element(layer.tokens.begin(), layer.tokens.end());
  const auto hottest = std::max_element(layer.tokens.begin(), layer.tokens.end());
  absl::StrAppendFormat(&out, "%5d %11d %9.3f  %-16s %-16s %s\n", layer.layer, layer.rows,
                        engine::Balancedness(layer.tokens), ExpertCell(hottest, layer),
                        ExpertCell(coldest, layer), PairCell(layer));
}

nlohmann::json CoActivation(const engine::LayerMoeCounts& layer) {
  const int64_t experts = layer.experts();
  std::vector<std::vector<uint64_t>> matrix(experts, std::vector<uint64_t>(experts));
  for (int64_t a = 0; a < experts; ++a) {
    matrix[a][a] = layer.tokens[a];
    for (int64_t b = a + 1; b < experts; ++b) {
      matrix[a][b] = matrix[b][a] = layer.pairs[engine::PairIndex(a, b, experts)];
    }
  }
  return matrix;
}

}  // namespace

std::string MoeTable(const engine::MoeSnapshot& snapshot, int top) {
  std::string out =
      "layer        rows  balanced  hottest          coldest          together most\n";
  for (const engine::LayerMoeCounts& layer : snapshot.layers) AppendLine(layer, out);
  const std::vector<engine::HotExpert> hottest = engine::HotExperts(snapshot, top);
  if (!hottest.empty()) absl::StrAppend(&out, "\nhottest experts\n");
  for (const engine::HotExpert& hot : hottest) {
    absl::StrAppendFormat(&out, "  layer %d, expert %d: %.1f %% of the rows\n", hot.layer,
                          hot.expert, 100.0 * hot.share);
  }
  return out;
}

std::string MoeJson(const engine::MoeSnapshot& snapshot) {
  nlohmann::json layers = nlohmann::json::array();
  for (const engine::LayerMoeCounts& layer : snapshot.layers) {
    nlohmann::json json = {{"layer", layer.layer},
                           {"rows", layer.rows},
                           {"tokens", layer.tokens},
                           {"balancedness", engine::Balancedness(layer.tokens)}};
    if (!layer.pairs.empty()) json["co_activation"] = CoActivation(layer);
    layers.push_back(std::move(json));
  }
  return nlohmann::json{{"layers", std::move(layers)}}.dump();
}

}  // namespace ccoe::cli
