#include "services/expert/runner_metrics.h"

#include "gtest/gtest.h"

namespace ccoe::services {
namespace {

TEST(RunnerMetricsTest, ShowsTheSumOverTheExpertsOfAWorker) {
  telemetry::Metrics metrics;
  telemetry::ExpertMetrics& shown = metrics.expert("e0");
  experts::ExpertLoad math, law;
  math.weight_bytes = 100;
  math.kv_tokens_used = 3;
  math.kv_tokens_total = 10;
  math.swaps = 5;
  math.rows = 50;
  math.batches = 4;
  law.weight_bytes = 200;
  law.kv_tokens_total = 10;
  law.waiting_rows = 7;
  law.swaps = 1;
  SampleRunner({math, law}, shown);
  math.swaps = 6;
  SampleRunner({math, law}, shown);
  EXPECT_EQ(shown.held_experts.Value(), 2);
  EXPECT_EQ(shown.weight_bytes.Value(), 300);
  EXPECT_EQ(shown.kv_used_tokens.Value(), 3);
  EXPECT_EQ(shown.kv_total_tokens.Value(), 20);
  EXPECT_EQ(shown.waiting_rows.Value(), 7);
  EXPECT_EQ(shown.swaps.Value(), 7);
  EXPECT_EQ(shown.rows.Value(), 50);
  EXPECT_EQ(shown.batches.Value(), 4);
}

}  // namespace
}  // namespace ccoe::services
