// SPDX-License-Identifier: Apache-2.0
#include "services/backbone/metrics.h"

#include <cstddef>
#include <vector>

#include "absl/time/time.h"
#include "glog/logging.h"

namespace ccoe::services {

void EngineMetrics::OnStep(int64_t rows, int64_t sequences, absl::Duration duration) {
  metrics_.step_rows.Observe(static_cast<double>(rows));
  metrics_.step_sequences.Observe(static_cast<double>(sequences));
  metrics_.step_seconds.Observe(absl::ToDoubleSeconds(duration));
}

void EngineMetrics::OnSwap(const engine::SwapEvent& event) {
  metrics_.swap_bytes_out.Increment(static_cast<double>(event.bytes_out));
  metrics_.swap_bytes_in.Increment(static_cast<double>(event.bytes_in));
  if (event.reason != exchange::SwapReason::kNone) {
    metrics_.failed_swaps.Increment(std::string(exchange::SwapReasonName(event.reason)));
    return;
  }
  metrics_.swap_seconds.Observe(absl::ToDoubleSeconds(event.round_trip));
  metrics_.swap_expert_seconds.Observe(absl::ToDoubleSeconds(event.expert_time));
}

void EngineMetrics::OnHungSwap(const std::string& what) {
  LOG(WARNING) << "hung: " << what;
  metrics_.hung_swaps.Increment();
}

void EngineMetrics::OnFailover() { metrics_.failovers.Increment(); }

void EngineMetrics::OnFirstToken(absl::Duration since_submit) {
  metrics_.first_token_seconds.Observe(absl::ToDoubleSeconds(since_submit));
}

void EngineMetrics::OnNextToken(absl::Duration since_previous) {
  metrics_.inter_token_seconds.Observe(absl::ToDoubleSeconds(since_previous));
}

void EngineMetrics::OnPreemption() { metrics_.preemptions.Increment(); }

void EngineMetrics::OnFinish(engine::FinishReason reason, const engine::Usage& usage) {
  switch (reason) {
    case engine::FinishReason::kStop:
      metrics_.finished_stop.Increment();
      break;
    case engine::FinishReason::kLength:
      metrics_.finished_length.Increment();
      break;
    case engine::FinishReason::kCancelled:
    case engine::FinishReason::kError:
      metrics_.finished_error.Increment();
      break;
  }
  metrics_.queue_seconds.Observe(absl::ToDoubleSeconds(usage.queue_time));
  metrics_.prompt_tokens.Increment(static_cast<double>(usage.prompt_tokens));
  metrics_.generated_tokens.Increment(static_cast<double>(usage.generated_tokens));
}

void EngineMetrics::Sample(const engine::EngineLoad& load) {
  metrics_.waiting_queries.Set(static_cast<double>(load.waiting));
  metrics_.running_queries.Set(static_cast<double>(load.running));
  metrics_.kv_used_tokens.Set(static_cast<double>(load.kv_tokens_used));
  metrics_.kv_total_tokens.Set(static_cast<double>(load.kv_tokens_total));
}

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
