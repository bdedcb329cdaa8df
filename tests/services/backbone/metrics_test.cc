// SPDX-License-Identifier: Apache-2.0
#include "services/backbone/metrics.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::services {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

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

model::ModelSpec Spec() {
  model::ModelSpec spec;
  spec.layers.resize(2);
  spec.layers[1].ffn.kind = model::FfnKind::kMoe;
  spec.layers[1].ffn.moe.experts = 4;
  return spec;
}

TEST(MoeMetricsTest, ShowBalancednessAndTheHottestExperts) {
  telemetry::Metrics metrics;
  engine::MoeStatistics statistics(Spec());
  statistics.Add(1, {0, 2, 4, 6, 8}, {0, 2, 1, 2, 2, 3, 0, 2});
  SampleMoe(statistics, metrics.moe("b0"));
  const telemetry::MoeMetrics& shown = metrics.moe("b0");
  EXPECT_EQ(shown.routed_pairs.Value(), 8);
  EXPECT_EQ(shown.hot_experts[0].share.Value(), 1.0);
  EXPECT_EQ(shown.hot_experts[0].layer.Value(), 1);
  EXPECT_EQ(shown.hot_experts[0].index.Value(), 2);
  EXPECT_EQ(shown.hot_experts[1].index.Value(), 0);
  EXPECT_EQ(shown.hot_experts[4].index.Value(), -1);  // there are but four
  EXPECT_THAT(metrics.Text(), AllOf(HasSubstr("balancedness_ratio{layer=\"1\",worker=\"b0\"} 0.5"),
                                    Not(HasSubstr("layer=\"0\""))));
}

TEST(MoeMetricsTest, ACounterNeverFallsWhenTheCountsAreReset) {
  telemetry::Metrics metrics;
  engine::MoeStatistics statistics(Spec());
  statistics.Add(1, {0, 2}, {0, 2});
  SampleMoe(statistics, metrics.moe("b0"));
  statistics.TakeAndReset();
  statistics.Add(1, {0, 1}, {3});
  SampleMoe(statistics, metrics.moe("b0"));
  EXPECT_EQ(metrics.moe("b0").routed_pairs.Value(), 3);
  EXPECT_EQ(metrics.moe("b0").hot_experts[0].index.Value(), 3);
}

}  // namespace
}  // namespace ccoe::services
