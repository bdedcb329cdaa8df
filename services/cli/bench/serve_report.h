// SPDX-License-Identifier: Apache-2.0
// The report of `ccoe bench serve`: a table with the names and the order of `vllm bench serve`, or
// JSON with the keys of its result files.
#ifndef CCOE_SERVICES_CLI_BENCH_SERVE_REPORT_H_
#define CCOE_SERVICES_CLI_BENCH_SERVE_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "nlohmann/json_fwd.hpp"
#include "services/cli/bench/serve_metrics.h"

namespace ccoe::cli {

struct ServeReport {
  ServeTotals totals;
  GoodputLimits limits;
  std::vector<std::string> metrics = {"ttft", "tpot", "itl", "e2el"};  // whose latencies are shown
  std::vector<double> percentiles = {99.0};                            // of each of them
  absl::Time began;
  absl::Duration elapsed = absl::ZeroDuration();
  double request_rate = 0.0;  // as asked for; infinity: all at once
  double burstiness = 1.0;
  int64_t max_concurrency = 0;  // 0: no limit
  int64_t peak_concurrency = 0;
  absl::Duration latest_send = absl::ZeroDuration();  // behind its time, in an open loop
};

// "ttft,e2el" and "50,99.9". INVALID_ARGUMENT names the word that is wrong.
absl::StatusOr<std::vector<std::string>> ParseMetricNames(const std::string& text);
absl::StatusOr<std::vector<double>> ParsePercentiles(const std::string& text);

std::string ServeTable(const ServeReport& report);
nlohmann::json ServeJson(const ServeReport& report);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_BENCH_SERVE_REPORT_H_
