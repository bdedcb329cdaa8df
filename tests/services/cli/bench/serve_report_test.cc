// SPDX-License-Identifier: Apache-2.0
#include "services/cli/bench/serve_report.h"

#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// Two answers of three tokens and one refusal in two seconds.
ServeReport Report() {
  ServeReport report;
  ServeMetrics metrics({});
  ServedRequest request;
  request.expert = "math@1";
  request.input_tokens = 50;
  request.token_ids = {1, 2, 3};
  for (const int ms : {100, 120, 170}) request.arrivals.push_back({absl::Milliseconds(ms), 1});
  metrics.Add(request);
  metrics.Add(request);
  ServedRequest refused;
  refused.status = absl::ResourceExhaustedError("full");
  metrics.Add(refused);
  report.totals = metrics.totals();
  report.began = absl::FromUnixSeconds(1700000000);
  report.elapsed = absl::Seconds(2);
  report.request_rate = std::numeric_limits<double>::infinity();
  report.max_concurrency = 4;
  report.peak_concurrency = 3;
  return report;
}

TEST(ServeTableTest, HasVllmsLines) {
  const std::string table = ServeTable(Report());
  for (const char* line : {"Successful requests:                     2\n",
                           "Failed requests:                         0\n",
                           "Refused requests:                        1\n",
                           "Maximum request concurrency:             4\n",
                           "Request throughput (req/s):              1.00\n",
                           "Output token throughput (tok/s):         3.00\n",
                           "Total token throughput (tok/s):          53.00\n",
                           "Mean TTFT (ms):                          100.00\n",
                           "P99 TPOT (ms):                           35.00\n",
                           "Median ITL (ms):                         35.00\n",
                           "Std E2EL (ms):                           0.00\n",
                           "Worst gap (ms):                          50.00\n"}) {
    EXPECT_THAT(table, HasSubstr(line));
  }
  EXPECT_THAT(table, Not(HasSubstr("Request rate configured"))) << "a closed loop has none";
  EXPECT_THAT(table, Not(HasSubstr("goodput"))) << "no limit was given";
}

TEST(ServeTableTest, ShowsErrorsWithAnExample) {
  ServeReport report = Report();
  report.totals.errors["UNAVAILABLE"] = {3, "worker expert-1 is gone"};
  report.totals.failed = 3;
  const std::string table = ServeTable(report);
  EXPECT_THAT(table,
              HasSubstr("UNAVAILABLE:                             3\n  worker expert-1 is gone"));
  EXPECT_THAT(table, HasSubstr("With a retry hint:                       0\n  full"));
}

TEST(ServeTableTest, ShowsTheAskedForLatenciesAlone) {
  ServeReport report = Report();
  report.metrics = {"e2el"};
  report.percentiles = {50, 99.9};
  const std::string table = ServeTable(report);
  EXPECT_THAT(table, HasSubstr("P99.9 E2EL (ms):"));
  EXPECT_THAT(table, Not(HasSubstr("TTFT (ms)")));
}

TEST(ServeJsonTest, HasVllmsKeysAndOurs) {
  ServeReport report = Report();
  report.limits.ttft = 100;
  report.totals.good = 2;
  const nlohmann::json json = ServeJson(report);
  EXPECT_EQ(json["completed"], 2);
  EXPECT_EQ(json["request_rate"], "inf");
  EXPECT_EQ(json["max_concurrency"], 4);
  EXPECT_EQ(json["request_goodput"], 1.0);
  EXPECT_EQ(json["mean_ttft_ms"], 100.0);
  EXPECT_EQ(json["p99_tpot_ms"], 35.0);
  EXPECT_EQ(json["worst_gap"]["ms"], 50.0);
  EXPECT_EQ(json["completed_by_expert"]["math@1"], 2);
  EXPECT_EQ(json["refused"]["count"], 1);
  EXPECT_EQ(json["start_unix_seconds"], 1700000000.0);
  EXPECT_TRUE(json["errors"].empty());
}

TEST(ServeJsonTest, IsWholeWithoutAnyAnswer) {
  ServeReport report;
  report.request_rate = 2;
  const nlohmann::json json = ServeJson(report);
  EXPECT_EQ(json["request_throughput"], 0.0);
  EXPECT_EQ(json["request_rate"], 2.0);
  EXPECT_EQ(json["max_concurrency"], nullptr);
  EXPECT_EQ(json["p99_e2el_ms"], 0.0);
}

TEST(ParseTest, TakesListsAndNamesWhatIsWrong) {
  EXPECT_THAT(*ParseMetricNames("ttft,itl"), ElementsAre("ttft", "itl"));
  EXPECT_THAT(*ParsePercentiles("50,99.9"), ElementsAre(50, 99.9));
  EXPECT_THAT(ParseMetricNames("ttft,tps"),
              testing::StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tps")));
  for (const char* text : {"", "50,", "101", "-1", "nan"}) {
    EXPECT_THAT(ParsePercentiles(text), testing::StatusIs(absl::StatusCode::kInvalidArgument))
        << text;
  }
}

}  // namespace

}  // namespace ccoe::cli
