// SPDX-License-Identifier: Apache-2.0
#include "runtime/telemetry/metrics.h"

#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/base/file.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::telemetry {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// Makes the metrics of every role.
void UseAllRoles(Metrics* metrics) {
  metrics->gateway().requests.Increment(absl::StatusCode::kOk);
  metrics->router().failed_routes.Increment(absl::StatusCode::kNotFound);
  metrics->backbone("b0").failed_swaps.Increment(absl::StatusCode::kUnavailable);
  metrics->moe("b0").balancedness.Set(3, 0.5);
  metrics->expert("e0");
}

TEST(MetricsTest, ShowsTheProcessFromTheBeginning) {
  Metrics metrics;
  EXPECT_THAT(metrics.Text(), AllOf(HasSubstr("ccoe_build_info{version=\""),
                                    HasSubstr("ccoe_process_resident_bytes "),
                                    HasSubstr("ccoe_process_start_time_seconds ")));
}

TEST(MetricsTest, ShowsTheRolesThatAreUsedAlone) {
  Metrics metrics;
  metrics.gateway();
  EXPECT_THAT(metrics.Text(), AllOf(HasSubstr("ccoe_gateway_"), Not(HasSubstr("ccoe_router_")),
                                    Not(HasSubstr("ccoe_backbone_"))));
}

TEST(MetricsTest, CountsRequestsByCode) {
  Metrics metrics;
  metrics.gateway().requests.Increment(absl::StatusCode::kOk);
  metrics.gateway().requests.Increment(absl::StatusCode::kOk);
  metrics.gateway().requests.Increment(absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(metrics.Text(),
              AllOf(HasSubstr("ccoe_gateway_requests_total{code=\"ok\"} 2"),
                    HasSubstr("ccoe_gateway_requests_total{code=\"resource_exhausted\"} 1")));
}

TEST(MetricsTest, TellsWorkersOfOneProcessApart) {
  Metrics metrics;
  metrics.backbone("b0").running_queries.Set(1);
  metrics.backbone("b1").running_queries.Set(2);
  metrics.backbone("b0").swap_bytes_out.Increment(4096);
  EXPECT_EQ(&metrics.backbone("b0"), &metrics.backbone("b0"));
  const std::string text = metrics.Text();
  EXPECT_THAT(
      text,
      AllOf(HasSubstr("ccoe_backbone_running_queries{worker=\"b0\"} 1"),
            HasSubstr("ccoe_backbone_running_queries{worker=\"b1\"} 2"),
            HasSubstr("ccoe_backbone_swap_bytes_total{direction=\"out\",worker=\"b0\"} 4096")));
}

TEST(MetricsTest, GatesShowOneSeriesALayerAndTheHottestExpertsByRank) {
  Metrics metrics;
  MoeMetrics& moe = metrics.moe("b0");
  EXPECT_EQ(&moe, &metrics.moe("b0"));
  moe.balancedness.Set(3, 0.25);
  moe.balancedness.Set(3, 0.5);
  ASSERT_EQ(moe.hot_experts.size(), 5u);
  moe.hot_experts[1].index.Set(17);
  EXPECT_THAT(
      metrics.Text(),
      AllOf(HasSubstr("ccoe_backbone_moe_balancedness_ratio{layer=\"3\",worker=\"b0\"} 0.5"),
            HasSubstr("ccoe_backbone_moe_hot_expert_index{rank=\"2\",worker=\"b0\"} 17")));
}

TEST(MetricsTest, HistogramsBeginWhereAnswersAreFast) {
  Metrics metrics;
  metrics.gateway().inter_token_seconds.Observe(0.0015);
  EXPECT_THAT(metrics.Text(), HasSubstr("ccoe_gateway_inter_token_seconds_bucket{le=\"0.002\"} 1"));
}

TEST(MetricsTest, RaisesACounterToATotalAndNeverLowersIt) {
  Metrics metrics;
  prometheus::Counter& rows = metrics.expert("e0").rows;
  RaiseTo(rows, 10);
  RaiseTo(rows, 7);
  EXPECT_EQ(rows.Value(), 10);
}

TEST(MetricsTest, SamplesBeforeAScrapeUntilTheSamplerGoes) {
  Metrics metrics;
  int samples = 0;
  auto sampler = metrics.AddSampler([&] { metrics.router().table_epoch.Set(++samples); });
  EXPECT_THAT(metrics.Text(), HasSubstr("ccoe_router_table_epoch 1"));
  sampler.reset();
  EXPECT_THAT(metrics.Text(), HasSubstr("ccoe_router_table_epoch 1"));
}

TEST(MetricsTest, KeepsToFewSeries) {
  Metrics metrics;
  UseAllRoles(&metrics);
  size_t series = 0;
  for (const auto& family : metrics.Collect()) series += family.metric.size();
  EXPECT_LT(series, 100u);
}

// The table in docs/metrics.md and the code list the same names.
TEST(MetricsTest, AreDocumentedWithoutExceptionAndNothingElseIs) {
  Metrics metrics;
  UseAllRoles(&metrics);
  std::set<std::string> named;
  for (const auto& family : metrics.Collect()) named.insert(family.name);
  ASSERT_OK_AND_ASSIGN(const std::string page, ReadFile("docs/metrics.md", 1 << 20));
  std::set<std::string> documented;
  for (absl::string_view line : absl::StrSplit(page, '\n')) {
    if (!absl::StartsWith(line, "| `ccoe_")) continue;
    const absl::string_view rest = line.substr(3);
    documented.insert(std::string(rest.substr(0, rest.find('`'))));
  }
  EXPECT_EQ(named, documented);
}

}  // namespace
}  // namespace ccoe::telemetry
