// SPDX-License-Identifier: Apache-2.0
#include "services/cli/bench/serve_metrics.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/common/status_to_grpc.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(LatencySamplesTest, GiveExactFiguresOfFewValues) {
  LatencySamples samples;
  for (const double value : {4.0, 1.0, 3.0, 2.0}) samples.Add(value);
  EXPECT_EQ(samples.count(), 4);
  EXPECT_DOUBLE_EQ(samples.mean(), 2.5);
  EXPECT_DOUBLE_EQ(samples.max(), 4.0);
  EXPECT_DOUBLE_EQ(samples.StandardDeviation(), std::sqrt(1.25));
  // As numpy.percentile([1, 2, 3, 4], ...).
  EXPECT_DOUBLE_EQ(samples.Percentile(0), 1.0);
  EXPECT_DOUBLE_EQ(samples.Percentile(50), 2.5);
  EXPECT_DOUBLE_EQ(samples.Percentile(99), 3.97);
  EXPECT_DOUBLE_EQ(samples.Percentile(100), 4.0);
}

TEST(LatencySamplesTest, AreZeroWithoutValues) {
  const LatencySamples samples;
  EXPECT_EQ(samples.Percentile(99), 0.0);
  EXPECT_EQ(samples.StandardDeviation(), 0.0);
  EXPECT_EQ(samples.mean(), 0.0);
}

TEST(LatencySamplesTest, KeepPercentilesOfManyValuesWithinAThousandth) {
  std::mt19937_64 random(3);
  std::lognormal_distribution<double> latency(2.0, 1.5);
  LatencySamples samples;
  std::vector<double> all;
  for (int i = 0; i < 200000; ++i) {
    all.push_back(latency(random));
    samples.Add(all.back());
  }
  std::sort(all.begin(), all.end());
  for (const double percent : {1.0, 25.0, 50.0, 90.0, 99.0, 99.9}) {
    const double exact = all[static_cast<size_t>(percent / 100.0 * 199999.0)];
    EXPECT_NEAR(samples.Percentile(percent), exact, exact * 0.0011) << percent;
  }
  EXPECT_EQ(samples.Percentile(100), samples.max());
}

TEST(LatencySamplesTest, TakeValuesOfAnySize) {
  LatencySamples samples;
  for (const double value : {0.0, -1.0, 1e300}) samples.Add(value);
  EXPECT_EQ(samples.Percentile(0), 0.0);
  EXPECT_EQ(samples.Percentile(100), 1e300);
}

// An answer whose tokens came one by one, at `ms` after it was sent.
ServedRequest Answered(int64_t index, const std::vector<double>& ms) {
  ServedRequest request;
  request.index = index;
  request.expert = "math@1";
  request.input_tokens = 10;
  for (const double at : ms) {
    request.arrivals.push_back({absl::Milliseconds(at), 1});
    request.token_ids.push_back(1);
  }
  return request;
}

TEST(ServeMetricsTest, MeasureAsVllmDefinesIt) {
  ServeMetrics metrics({});
  metrics.Add(Answered(0, {100, 120, 160}));
  const ServeTotals& totals = metrics.totals();
  EXPECT_EQ(totals.completed, 1);
  EXPECT_EQ(totals.input_tokens, 10);
  EXPECT_EQ(totals.output_tokens, 3);
  EXPECT_DOUBLE_EQ(totals.ttft.mean(), 100);
  EXPECT_DOUBLE_EQ(totals.e2el.mean(), 160);
  EXPECT_DOUBLE_EQ(totals.tpot.mean(), 30) << "(160 - 100) / 2";
  EXPECT_EQ(totals.itl.count(), 2);
  EXPECT_DOUBLE_EQ(totals.itl.max(), 40);
  EXPECT_EQ(totals.completed_by_expert.at("math@1"), 1);
}

TEST(ServeMetricsTest, CountAMessageOfSeveralTokensAsOneGap) {
  ServeMetrics metrics({});
  ServedRequest request = Answered(0, {100, 150});
  request.arrivals.back().tokens = 5;
  request.token_ids.resize(6);
  metrics.Add(request);
  EXPECT_EQ(metrics.totals().itl.count(), 1);
  EXPECT_DOUBLE_EQ(metrics.totals().tpot.mean(), 10) << "(150 - 100) / 5";
  EXPECT_THAT(metrics.totals().tokens_by_second, ElementsAre(6));
}

TEST(ServeMetricsTest, TakeNoTimePerTokenFromAnswersOfOneToken) {
  ServeMetrics metrics({});
  metrics.Add(Answered(0, {100}));
  metrics.Add(Answered(1, {}));
  EXPECT_EQ(metrics.totals().completed, 2);
  EXPECT_EQ(metrics.totals().tpot.count(), 0);
  EXPECT_EQ(metrics.totals().ttft.count(), 1);
}

TEST(ServeMetricsTest, FindTheWorstGapOfAllAnswersTheFailedOnesToo) {
  ServeMetrics metrics({});
  ServedRequest request = Answered(4, {10, 20});
  request.sent = absl::Milliseconds(500);
  metrics.Add(request);
  ServedRequest failed = Answered(5, {10, 1710});
  failed.sent = absl::Milliseconds(500);
  failed.status = absl::InternalError("broken");
  metrics.Add(failed);
  const WorstGap& worst = metrics.totals().worst_gap;
  EXPECT_EQ(worst.gap, absl::Milliseconds(1700));
  EXPECT_EQ(worst.at, absl::Milliseconds(2210));
  EXPECT_EQ(worst.request, 5);
  EXPECT_EQ(metrics.totals().itl.count(), 1) << "latencies are of whole answers";
  EXPECT_THAT(metrics.totals().worst_gap_by_second, ElementsAre(10, 0, 1700));
  EXPECT_THAT(metrics.totals().tokens_by_second, ElementsAre(3, 0, 1));
}

TEST(ServeMetricsTest, CountRefusalsApartWithTheirHints) {
  ServeMetrics metrics({});
  ServedRequest refused;
  refused.status = absl::ResourceExhaustedError("300 wait already");
  metrics.Add(refused);
  for (const int ms : {250, 50}) {
    refused.status =
        services::WithRetryAfter(absl::ResourceExhaustedError("full"), absl::Milliseconds(ms));
    metrics.Add(refused);
  }
  const ServeTotals& totals = metrics.totals();
  EXPECT_EQ(totals.refused.count, 3);
  EXPECT_EQ(totals.refused.example, "300 wait already");
  EXPECT_EQ(totals.retry_hints, 2);
  EXPECT_EQ(totals.shortest_hint, absl::Milliseconds(50));
  EXPECT_EQ(totals.longest_hint, absl::Milliseconds(250));
  EXPECT_EQ(totals.failed, 0);
}

TEST(ServeMetricsTest, CountErrorsByCodeWithAnExample) {
  ServeMetrics metrics({});
  ServedRequest failed;
  for (const char* message : {"worker a", "worker b"}) {
    failed.status = absl::UnavailableError(message);
    metrics.Add(failed);
  }
  failed.status = absl::NotFoundError("expert");
  metrics.Add(failed);
  failed.cancelled = true;
  metrics.Add(failed);
  const ServeTotals& totals = metrics.totals();
  EXPECT_EQ(totals.failed, 3);
  EXPECT_EQ(totals.cancelled, 1);
  EXPECT_EQ(totals.errors.at("UNAVAILABLE").count, 2);
  EXPECT_EQ(totals.errors.at("UNAVAILABLE").example, "worker a");
  EXPECT_EQ(totals.errors.at("NOT_FOUND").count, 1);
}

TEST(ServeMetricsTest, CallGoodWhatKeepsAllLimits) {
  ASSERT_OK_AND_ASSIGN(const GoodputLimits limits, ParseGoodput({"ttft:100", "tpot:20"}));
  ServeMetrics metrics(limits);
  metrics.Add(Answered(0, {100, 120}));
  metrics.Add(Answered(1, {101, 120}));
  metrics.Add(Answered(2, {100, 121}));
  EXPECT_EQ(metrics.totals().good, 1);
}

TEST(ParseGoodputTest, NamesTheWordThatIsWrong) {
  for (const char* word : {"itl:5", "ttft", "ttft:", "ttft:-1", "ttft:nan", "ttft:1ms"}) {
    EXPECT_THAT(ParseGoodput({word}),
                testing::StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(word)))
        << word;
  }
  EXPECT_THAT(ParseGoodput({"ttft:1", "ttft:2"}),
              testing::StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("twice")));
}

}  // namespace

}  // namespace ccoe::cli
