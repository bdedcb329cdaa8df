// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/moe_statistics.h"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace ccoe::engine {
namespace {

void AddTo(const std::vector<uint64_t>& from, std::vector<uint64_t>& to) {
  for (size_t i = 0; i < to.size(); ++i) to[i] += from[i];
}

std::vector<LayerMoeCounts>::iterator Find(MoeSnapshot& snapshot, int32_t layer) {
  return std::lower_bound(
      snapshot.layers.begin(), snapshot.layers.end(), layer,
      [](const LayerMoeCounts& counts, int32_t wanted) { return counts.layer < wanted; });
}

}  // namespace

double Balancedness(absl::Span<const uint64_t> tokens) {
  const uint64_t sum = std::accumulate(tokens.begin(), tokens.end(), uint64_t{0});
  if (sum == 0) return 1.0;
  const double mean = static_cast<double>(sum) / static_cast<double>(tokens.size());
  return mean / static_cast<double>(*std::max_element(tokens.begin(), tokens.end()));
}

std::vector<HotExpert> HotExperts(const MoeSnapshot& snapshot, int count) {
  std::vector<HotExpert> hot;
  for (const LayerMoeCounts& layer : snapshot.layers) {
    for (int32_t expert = 0; expert < layer.experts(); ++expert) {
      const uint64_t tokens = layer.tokens[expert];
      if (tokens == 0) continue;
      const double share = static_cast<double>(tokens) / static_cast<double>(layer.rows);
      hot.push_back({layer.layer, expert, tokens, share});
    }
  }
  const size_t kept = std::min(hot.size(), static_cast<size_t>(std::max(count, 0)));
  std::partial_sort(
      hot.begin(), hot.begin() + kept, hot.end(), [](const HotExpert& a, const HotExpert& b) {
        return std::tie(b.share, a.layer, a.expert) < std::tie(a.share, b.layer, b.expert);
      });
  hot.resize(kept);
  return hot;
}

ExpertPair MostCoActivated(const LayerMoeCounts& layer) {
  ExpertPair best;
  if (layer.pairs.empty()) return best;
  int64_t index = 0;
  for (int32_t a = 0; a < layer.experts(); ++a) {
    for (int32_t b = a + 1; b < layer.experts(); ++b, ++index) {
      if (layer.pairs[index] > best.rows) best = {a, b, layer.pairs[index]};
    }
  }
  return best;
}

absl::Status Merge(const MoeSnapshot& other, MoeSnapshot& total) {
  for (const LayerMoeCounts& layer : other.layers) {
    const auto found = Find(total, layer.layer);
    if (found == total.layers.end() || found->layer != layer.layer) continue;
    if (found->experts() != layer.experts()) {
      return absl::InvalidArgumentError(absl::StrCat("MoE statistics of layer ", layer.layer,
                                                     ": expected counts of ", found->experts(),
                                                     " experts, found ", layer.experts()));
    }
  }
  for (const LayerMoeCounts& layer : other.layers) {
    const auto found = Find(total, layer.layer);
    if (found == total.layers.end() || found->layer != layer.layer) {
      total.layers.insert(found, layer);
      continue;
    }
    found->rows += layer.rows;
    AddTo(layer.tokens, found->tokens);
    if (layer.pairs.size() == found->pairs.size()) {
      AddTo(layer.pairs, found->pairs);
    } else {
      found->pairs.clear();
    }
  }
  return absl::OkStatus();
}

MoeStatistics::MoeStatistics(const model::ModelSpec& spec) : layers_(spec.layers.size()) {
  for (int32_t layer = 0; layer < spec.layer_count(); ++layer) {
    const model::FfnSpec& ffn = spec.layers[layer].ffn;
    if (ffn.is_moe()) layers_[layer] = std::make_unique<Layer>(layer, ffn.moe.experts);
  }
}

void MoeStatistics::Add(int32_t layer, absl::Span<const int32_t> offsets,
                        absl::Span<const int32_t> experts) {
  CCOE_CHECK(layer >= 0 && layer < static_cast<int32_t>(layers_.size()) &&
             layers_[layer] != nullptr);
  if (offsets.size() < 2) return;
  Layer& counts = *layers_[layer];
  for (const int32_t expert : experts) CCOE_CHECK(expert >= 0 && expert < counts.experts);
  routed_pairs_.fetch_add(experts.size(), std::memory_order_relaxed);
  absl::MutexLock lock(&counts.mutex);
  if (counts.tokens.empty()) {
    counts.tokens.resize(counts.experts);
    counts.pairs.resize(PairCount(counts.experts));
  }
  const auto rows = static_cast<int64_t>(offsets.size()) - 1;
  counts.rows += rows;
  for (int64_t row = 0; row < rows; ++row) {
    for (int32_t i = offsets[row]; i < offsets[row + 1]; ++i) {
      const int32_t first = experts[i];
      ++counts.tokens[first];
      // The pairs of one first expert stand side by side: pair (first, b) at row_of_pairs + b.
      const int64_t row_of_pairs = PairIndex(first, 0, counts.experts);
      for (int32_t j = i + 1; j < offsets[row + 1]; ++j) ++counts.pairs[row_of_pairs + experts[j]];
    }
  }
}

LayerMoeCounts MoeStatistics::Copy(Layer& layer, bool with_pairs) {
  LayerMoeCounts counts;
  counts.layer = layer.index;
  counts.rows = layer.rows;
  counts.tokens = layer.tokens;
  counts.tokens.resize(layer.experts);
  if (!with_pairs) return counts;
  counts.pairs = layer.pairs;
  counts.pairs.resize(PairCount(layer.experts));
  return counts;
}

MoeSnapshot MoeStatistics::Snapshot(bool with_pairs) const {
  MoeSnapshot snapshot;
  for (const std::unique_ptr<Layer>& layer : layers_) {
    if (layer == nullptr) continue;
    absl::MutexLock lock(&layer->mutex);
    snapshot.layers.push_back(Copy(*layer, with_pairs));
  }
  return snapshot;
}

MoeSnapshot MoeStatistics::TakeAndReset() {
  MoeSnapshot snapshot;
  for (const std::unique_ptr<Layer>& layer : layers_) {
    if (layer == nullptr) continue;
    absl::MutexLock lock(&layer->mutex);
    snapshot.layers.push_back(Copy(*layer, /*with_pairs=*/true));
    layer->rows = 0;
    layer->tokens.clear();
    layer->pairs.clear();
  }
  return snapshot;
}

}  // namespace ccoe::engine
