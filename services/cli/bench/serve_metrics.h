// SPDX-License-Identifier: Apache-2.0
// What `ccoe bench serve` measures, in the terms of `vllm bench serve`:
//
//   TTFT     from sending a request to its first token
//   ITL      between two messages with tokens of one answer
//   E2EL     from sending a request to its last token
//   TPOT     (E2EL - TTFT) / (tokens - 1), of answers with at least two
//   goodput  requests a second that kept all given limits
//
// Only answers that came to their end are in these; the worst gap, which looks for stalls, is over
// all tokens that came.
#ifndef CCOE_SERVICES_CLI_BENCH_SERVE_METRICS_H_
#define CCOE_SERVICES_CLI_BENCH_SERVE_METRICS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace ccoe::cli {

// The distribution of one latency over a run of any length, in bounded memory. Not thread-safe.
//
// Count, mean, standard deviation and extremes are exact. Percentiles come from buckets that are
// 0.1 % wide and know the mean of what fell into them: values in buckets of their own come out as
// they went in, others within 0.1 %. At most some 40,000 buckets, of which latencies fill a few
// hundred.
class LatencySamples {
 public:
  // In any unit; below 0 counts as 0.
  void Add(double value);

  // All are 0 of no values.
  int64_t count() const { return count_; }
  double mean() const { return mean_; }
  double max() const { return max_; }
  // Of the whole, not of a sample of it: divided by the count.
  double StandardDeviation() const;
  // `percent` of 0 to 100; between two values it lies on the straight line, as in numpy.
  double Percentile(double percent) const;

 private:
  struct Bucket {
    int64_t count = 0;
    double sum = 0.0;
  };

  // The value at `rank` (from 0) in rising order.
  double ValueAt(int64_t rank) const;

  int64_t count_ = 0;
  double mean_ = 0.0;
  double squares_ = 0.0;  // sum of squared distances from the mean
  double max_ = 0.0;
  std::map<int, Bucket> buckets_;
};

// One message of an answer that brought tokens.
struct TokenArrival {
  absl::Duration at;  // since the request was sent
  int64_t tokens = 0;
};

// One request as the client saw it.
struct ServedRequest {
  int64_t index = 0;         // in the run, from 0
  absl::Status status;       // with the server's retry hint, if it sent one
  std::string expert;        // "math@1" or "base", where the server decided
  absl::Duration sent;       // since the load began
  absl::Duration total;      // until the call ended
  int64_t input_tokens = 0;  // as the server counts them
  std::vector<int32_t> token_ids;
  std::vector<TokenArrival> arrivals;
  bool cancelled = false;  // by this side, because the run was ended
};

// Limits in milliseconds; unset: any.
struct GoodputLimits {
  std::optional<double> ttft, tpot, e2el;

  bool any() const { return ttft.has_value() || tpot.has_value() || e2el.has_value(); }
};

// "ttft:100", "tpot:20", "e2el:1000", each once. INVALID_ARGUMENT names the word that is wrong.
absl::StatusOr<GoodputLimits> ParseGoodput(const std::vector<std::string>& words);

struct ErrorCount {
  int64_t count = 0;
  std::string example;  // the first one's message
};

struct WorstGap {
  absl::Duration gap = absl::ZeroDuration();
  absl::Duration at = absl::ZeroDuration();  // when it ended, since the load began
  int64_t request = 0;                       // its index
  std::string expert;
};

// Times in milliseconds.
struct ServeTotals {
  int64_t completed = 0;
  int64_t cancelled = 0;
  int64_t good = 0;           // of the completed
  int64_t input_tokens = 0;   // of the completed
  int64_t output_tokens = 0;  // of the completed
  LatencySamples ttft, tpot, itl, e2el;
  WorstGap worst_gap;
  std::map<std::string, int64_t> completed_by_expert;

  ErrorCount refused;       // RESOURCE_EXHAUSTED
  int64_t retry_hints = 0;  // of the refused, those with one
  absl::Duration shortest_hint = absl::InfiniteDuration();
  absl::Duration longest_hint = absl::ZeroDuration();
  int64_t failed = 0;                        // all other errors
  std::map<std::string, ErrorCount> errors;  // by the code's name

  // A second of the run each, from its start: tokens that came, and the worst gap that ended.
  std::vector<int64_t> tokens_by_second;
  std::vector<double> worst_gap_by_second;
};

// Not thread-safe.
class ServeMetrics {
 public:
  explicit ServeMetrics(const GoodputLimits& limits) : limits_(limits) {}

  void Add(const ServedRequest& request);

  const ServeTotals& totals() const { return totals_; }

 private:
  void AddError(const ServedRequest& request);
  void AddCompleted(const ServedRequest& request);
  // Both kinds: what came, when, and how long nothing did.
  void AddArrivals(const ServedRequest& request);

  const GoodputLimits limits_;
  ServeTotals totals_;
};

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_BENCH_SERVE_METRICS_H_
