// SPDX-License-Identifier: Apache-2.0
#include "services/cli/bench/serve_metrics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "services/common/status_to_grpc.h"

namespace ccoe::cli {
namespace {

constexpr double kWidth = 1.001;
// Values outside share the outermost buckets.
constexpr double kLeast = 1e-9;
constexpr double kMost = 1e9;

int BucketOf(double value) {
  static const double width = std::log(kWidth);
  return static_cast<int>(std::floor(std::log(std::clamp(value, kLeast, kMost)) / width));
}

// A week: what comes later counts as of the last second.
constexpr int64_t kMaxSeconds = 7 * 24 * 3600;

template <typename T>
T& AtSecond(std::vector<T>& seconds, absl::Duration at) {
  const auto second =
      static_cast<size_t>(std::clamp<int64_t>(absl::ToInt64Seconds(at), 0, kMaxSeconds - 1));
  if (second >= seconds.size()) seconds.resize(second + 1);
  return seconds[second];
}

void Count(const absl::Status& status, ErrorCount& errors) {
  if (errors.count++ == 0) errors.example = std::string(status.message());
}

bool Keeps(double ms, const std::optional<double>& limit) {
  return !limit.has_value() || ms <= *limit;
}

}  // namespace

void LatencySamples::Add(double value) {
  value = std::max(value, 0.0);
  ++count_;
  // Welford 1962: no difference of large sums.
  const double distance = value - mean_;
  mean_ += distance / static_cast<double>(count_);
  squares_ += distance * (value - mean_);
  max_ = std::max(max_, value);
  Bucket& bucket = buckets_[BucketOf(value)];
  ++bucket.count;
  bucket.sum += value;
}

double LatencySamples::StandardDeviation() const {
  return count_ == 0 ? 0.0 : std::sqrt(squares_ / static_cast<double>(count_));
}

double LatencySamples::ValueAt(int64_t rank) const {
  for (const auto& [unused, bucket] : buckets_) {
    if (rank < bucket.count) return bucket.sum / static_cast<double>(bucket.count);
    rank -= bucket.count;
  }
  return max_;
}

double LatencySamples::Percentile(double percent) const {
  if (count_ == 0) return 0.0;
  const double place = std::clamp(percent, 0.0, 100.0) / 100.0 * static_cast<double>(count_ - 1);
  const auto below = static_cast<int64_t>(place);
  const double low = ValueAt(below);
  const double high = ValueAt(std::min(below + 1, count_ - 1));
  return low + (high - low) * (place - static_cast<double>(below));
}

absl::StatusOr<GoodputLimits> ParseGoodput(const std::vector<std::string>& words) {
  GoodputLimits limits;
  for (const std::string& word : words) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(word, absl::MaxSplits(':', 1));
    std::optional<double>* limit = parts.first == "ttft"   ? &limits.ttft
                                   : parts.first == "tpot" ? &limits.tpot
                                   : parts.first == "e2el" ? &limits.e2el
                                                           : nullptr;
    double ms = 0.0;
    if (limit == nullptr || !absl::SimpleAtod(parts.second, &ms) || !(ms > 0.0)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "expected ttft:MS, tpot:MS or e2el:MS with more than 0 ms, found \"", word, "\""));
    }
    if (limit->has_value())
      return absl::InvalidArgumentError(absl::StrCat(parts.first, " is given twice"));
    *limit = ms;
  }
  return limits;
}

void ServeMetrics::Add(const ServedRequest& request) {
  AddArrivals(request);
  if (request.cancelled) {
    ++totals_.cancelled;
  } else if (request.status.ok()) {
    AddCompleted(request);
  } else {
    AddError(request);
  }
}

void ServeMetrics::AddError(const ServedRequest& request) {
  if (!absl::IsResourceExhausted(request.status)) {
    ++totals_.failed;
    Count(request.status, totals_.errors[absl::StatusCodeToString(request.status.code())]);
    return;
  }
  Count(request.status, totals_.refused);
  const auto hint = services::RetryAfter(request.status);
  if (!hint.has_value()) return;
  ++totals_.retry_hints;
  totals_.shortest_hint = std::min(totals_.shortest_hint, *hint);
  totals_.longest_hint = std::max(totals_.longest_hint, *hint);
}

void ServeMetrics::AddCompleted(const ServedRequest& request) {
  const auto tokens = static_cast<int64_t>(request.token_ids.size());
  ++totals_.completed;
  ++totals_.completed_by_expert[request.expert];
  totals_.input_tokens += request.input_tokens;
  totals_.output_tokens += tokens;
  if (request.arrivals.empty()) return;  // an answer without a token has none of these times
  const double ttft = absl::ToDoubleMilliseconds(request.arrivals.front().at);
  const double e2el = absl::ToDoubleMilliseconds(request.arrivals.back().at);
  const double tpot = tokens > 1 ? (e2el - ttft) / static_cast<double>(tokens - 1) : 0.0;
  totals_.ttft.Add(ttft);
  totals_.e2el.Add(e2el);
  if (tokens > 1) totals_.tpot.Add(tpot);
  for (size_t i = 1; i < request.arrivals.size(); ++i) {
    totals_.itl.Add(
        absl::ToDoubleMilliseconds(request.arrivals[i].at - request.arrivals[i - 1].at));
  }
  if (Keeps(ttft, limits_.ttft) && Keeps(tpot, limits_.tpot) && Keeps(e2el, limits_.e2el))
    ++totals_.good;
}

void ServeMetrics::AddArrivals(const ServedRequest& request) {
  for (size_t i = 0; i < request.arrivals.size(); ++i) {
    const absl::Duration at = request.sent + request.arrivals[i].at;
    AtSecond(totals_.tokens_by_second, at) += request.arrivals[i].tokens;
    if (i == 0) continue;
    const absl::Duration gap = request.arrivals[i].at - request.arrivals[i - 1].at;
    double& worst = AtSecond(totals_.worst_gap_by_second, at);
    worst = std::max(worst, absl::ToDoubleMilliseconds(gap));
    if (gap > totals_.worst_gap.gap) totals_.worst_gap = {gap, at, request.index, request.expert};
  }
}

}  // namespace ccoe::cli
