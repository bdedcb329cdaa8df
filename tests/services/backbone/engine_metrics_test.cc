#include "services/backbone/engine_metrics.h"

#include <string>

#include "gtest/gtest.h"

namespace ccoe::services {
namespace {

TEST(EngineMetricsTest, EventsOfTheEngineShowInTheWorkersMetrics) {
  telemetry::Metrics metrics;
  telemetry::BackboneMetrics& shown = metrics.backbone("b0");
  EngineMetrics observer(&shown);
  observer.OnStep(8, 2, absl::Milliseconds(3));
  engine::SwapEvent swap;
  swap.bytes_out = 100;
  swap.bytes_in = 50;
  observer.OnSwap(swap);
  swap.reason = exchange::SwapReason::kLinkBroken;
  swap.bytes_in = 0;
  observer.OnSwap(swap);
  observer.OnFirstToken(absl::Milliseconds(10));
  observer.OnNextToken(absl::Milliseconds(5));
  observer.OnPreemption();
  observer.OnFailover();
  observer.OnHungSwap("step 12");
  engine::Usage usage;
  usage.prompt_tokens = 3;
  usage.generated_tokens = 4;
  observer.OnFinish(engine::FinishReason::kStop, usage);
  observer.OnFinish(engine::FinishReason::kLength, usage);
  observer.OnFinish(engine::FinishReason::kError, usage);
  engine::EngineLoad load;
  load.waiting = 1;
  load.running = 2;
  load.kv_tokens_used = 30;
  load.kv_tokens_total = 40;
  observer.Sample(load);
  EXPECT_EQ(shown.swap_bytes_out.Value(), 200);
  EXPECT_EQ(shown.swap_bytes_in.Value(), 50);
  EXPECT_EQ(shown.preemptions.Value(), 1);
  EXPECT_EQ(shown.failovers.Value(), 1);
  EXPECT_EQ(shown.hung_swaps.Value(), 1);
  EXPECT_EQ(shown.finished_stop.Value(), 1);
  EXPECT_EQ(shown.finished_length.Value(), 1);
  EXPECT_EQ(shown.finished_error.Value(), 1);
  EXPECT_EQ(shown.prompt_tokens.Value(), 9);
  EXPECT_EQ(shown.generated_tokens.Value(), 12);
  EXPECT_EQ(shown.waiting_queries.Value(), 1);
  EXPECT_EQ(shown.running_queries.Value(), 2);
  EXPECT_EQ(shown.kv_used_tokens.Value(), 30);
  EXPECT_EQ(shown.kv_total_tokens.Value(), 40);
  EXPECT_NE(metrics.Text().find("reason=\"link broken\""), std::string::npos);
}

}  // namespace
}  // namespace ccoe::services
