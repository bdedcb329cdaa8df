#include "services/backbone/moe_metrics.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::services {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

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
