#include "services/cli/bench_serve_flags.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::testing::HasSubstr;

void ExpectUsage(const absl::Status& status, const char* text) {
  EXPECT_EQ(ExitCodeFor(status), kExitUsage) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(text));
}

TEST(BenchServeFlagsTest, DefaultsSendAThousandRequestsAtOnce) {
  const BenchServeFlags flags;
  EXPECT_OK(CheckBenchServeFlags(flags));
  const LoadRunOptions options = ToLoadRunOptions(flags);
  EXPECT_EQ(options.requests, 1000);
  EXPECT_EQ(options.duration, absl::InfiniteDuration());
}

TEST(BenchServeFlagsTest, DurationAloneSetsNoNumber) {
  BenchServeFlags flags;
  flags.duration_seconds = 1.5;
  flags.request_rate = 10;
  EXPECT_EQ(ToLoadRunOptions(flags).requests, 0);
  EXPECT_EQ(ToLoadRunOptions(flags).duration, absl::Milliseconds(1500));
  flags.num_prompts = 7;
  EXPECT_EQ(ToLoadRunOptions(flags).requests, 7);
}

TEST(BenchServeFlagsTest, NamesFlagsThatDoNotGoTogether) {
  const auto check = [](void (*change)(BenchServeFlags&)) {
    BenchServeFlags flags;
    change(flags);
    return CheckBenchServeFlags(flags);
  };
  ExpectUsage(check([](BenchServeFlags& f) { f.request_rate = 0; }), "--request-rate");
  ExpectUsage(
      check([](BenchServeFlags& f) { f.request_rate = std::numeric_limits<double>::quiet_NaN(); }),
      "--request-rate");
  ExpectUsage(check([](BenchServeFlags& f) { f.duration_seconds = 1; }), "--max-concurrency");
  ExpectUsage(check([](BenchServeFlags& f) { f.dataset = "custom"; }), "--dataset-path");
  ExpectUsage(check([](BenchServeFlags& f) { f.dataset_path = "x"; }), "--dataset-name");
  ExpectUsage(check([](BenchServeFlags& f) { f.zipf = 1; }), "--zipf");
  ExpectUsage(check([](BenchServeFlags& f) {
                f.all_experts = true;
                f.experts = {"math"};
              }),
              "--all-experts");
  ExpectUsage(check([](BenchServeFlags& f) { f.record = f.compare = "x"; }), "--record");
}

TEST(BenchServeFlagsTest, NameTheFlagOfAListThatIsWrong) {
  BenchServeFlags flags;
  flags.goodput = {"itl:3"};
  ExpectUsage(ToServeReport(flags).status(), "--goodput: ");
  flags = {};
  flags.percentile_metrics = "tps";
  ExpectUsage(ToServeReport(flags).status(), "--percentile-metrics: ");
  flags = {};
  flags.metric_percentiles = "101";
  ExpectUsage(ToServeReport(flags).status(), "--metric-percentiles: ");
}

TEST(BenchServeFlagsTest, EachRequestHasASeedOfItsOwn) {
  const BenchServeFlags flags;
  EXPECT_EQ(ToSampling(flags, 3, 9).seed(), ToSampling(flags, 3, 9).seed());
  EXPECT_NE(ToSampling(flags, 3, 9).seed(), ToSampling(flags, 4, 9).seed());
  EXPECT_EQ(ToSampling(flags, 3, 9).max_tokens(), 9);
}

TEST(BenchServeFlagsTest, ResultsAreNamedAfterTheLoad) {
  BenchServeFlags flags;
  flags.result_dir = "/results";
  flags.max_concurrency = 8;
  ServeReport report;
  report.began = absl::FromUnixSeconds(1700000000);
  EXPECT_EQ(ResultPath(flags, report), "/results/ccoe-infqps-concurrency8-20231114-221320.json");
  flags.result_filename = "run.json";
  EXPECT_EQ(ResultPath(flags, report), "/results/run.json");
}

}  // namespace
}  // namespace ccoe::cli
