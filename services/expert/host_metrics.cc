#include "services/expert/host_metrics.h"

namespace ccoe::services {

void SampleHost(const experts::HostLoad& load, telemetry::ExpertMetrics& metrics) {
  experts::ExpertLoad sum;
  sum.weight_bytes = load.ffn.weight_bytes;
  sum.swaps = load.ffn.swaps;
  sum.rows = load.ffn.rows;
  sum.batches = load.ffn.batches;
  for (const experts::ExpertLoad& expert : load.experts) {
    sum.weight_bytes += expert.weight_bytes;
    sum.kv_tokens_used += expert.kv_tokens_used;
    sum.kv_tokens_total += expert.kv_tokens_total;
    sum.swaps += expert.swaps;
    sum.rows += expert.rows;
    sum.batches += expert.batches;
  }
  metrics.held_experts.Set(static_cast<double>(load.experts.size()));
  metrics.weight_bytes.Set(static_cast<double>(sum.weight_bytes));
  metrics.kv_used_tokens.Set(static_cast<double>(sum.kv_tokens_used));
  metrics.kv_total_tokens.Set(static_cast<double>(sum.kv_tokens_total));
  metrics.waiting_rows.Set(static_cast<double>(load.waiting_rows));
  telemetry::RaiseTo(metrics.swaps, static_cast<double>(sum.swaps));
  telemetry::RaiseTo(metrics.rows, static_cast<double>(sum.rows));
  telemetry::RaiseTo(metrics.batches, static_cast<double>(sum.batches));
}

}  // namespace ccoe::services
