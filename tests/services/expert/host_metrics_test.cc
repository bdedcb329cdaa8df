#include "services/expert/host_metrics.h"

#include "gtest/gtest.h"

namespace ccoe::services {
namespace {

TEST(HostMetricsTest, ShowsTheSumOverTheExpertsOfAWorker) {
  telemetry::Metrics metrics;
  telemetry::ExpertMetrics& shown = metrics.expert("e0");
  experts::HostLoad load;
  load.experts.resize(2);
  experts::ExpertLoad &math = load.experts[0], &law = load.experts[1];
  math.weight_bytes = 100;
  math.kv_tokens_used = 3;
  math.kv_tokens_total = 10;
  math.swaps = 5;
  math.rows = 50;
  math.batches = 4;
  law.weight_bytes = 200;
  law.kv_tokens_total = 10;
  law.swaps = 1;
  load.ffn.weight_bytes = 1000;
  load.ffn.swaps = 10;
  load.ffn.rows = 100;
  load.ffn.batches = 2;
  load.waiting_rows = 7;
  SampleHost(load, shown);
  math.swaps = 6;
  SampleHost(load, shown);
  EXPECT_EQ(shown.held_experts.Value(), 2);
  EXPECT_EQ(shown.weight_bytes.Value(), 1300);
  EXPECT_EQ(shown.kv_used_tokens.Value(), 3);
  EXPECT_EQ(shown.kv_total_tokens.Value(), 20);
  EXPECT_EQ(shown.waiting_rows.Value(), 7);
  EXPECT_EQ(shown.swaps.Value(), 17);
  EXPECT_EQ(shown.rows.Value(), 150);
  EXPECT_EQ(shown.batches.Value(), 6);
}

}  // namespace
}  // namespace ccoe::services
