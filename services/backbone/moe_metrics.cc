#include "services/backbone/moe_metrics.h"

#include <cstddef>
#include <vector>

namespace ccoe::services {

void SampleMoe(const engine::MoeStatistics& statistics, telemetry::MoeMetrics& metrics) {
  telemetry::RaiseTo(metrics.routed_pairs, static_cast<double>(statistics.routed_pairs()));
  const engine::MoeSnapshot snapshot = statistics.Snapshot(/*with_pairs=*/false);
  for (const engine::LayerMoeCounts& layer : snapshot.layers) {
    metrics.balancedness.Set(layer.layer, engine::Balancedness(layer.tokens));
  }
  const std::vector<engine::HotExpert> hottest =
      engine::HotExperts(snapshot, telemetry::MoeMetrics::kHotExperts);
  for (size_t rank = 0; rank < metrics.hot_experts.size(); ++rank) {
    const engine::HotExpert hot =
        rank < hottest.size() ? hottest[rank] : engine::HotExpert{-1, -1, 0, 0.0};
    metrics.hot_experts[rank].share.Set(hot.share);
    metrics.hot_experts[rank].layer.Set(hot.layer);
    metrics.hot_experts[rank].index.Set(hot.expert);
  }
}

}  // namespace ccoe::services
