// SPDX-License-Identifier: Apache-2.0
#include "services/cli/bench/serve_report.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"

namespace ccoe::cli {
namespace {

struct MetricName {
  const char* key;
  const char* label;
  const char* title;
  LatencySamples ServeTotals::*samples;
};

constexpr MetricName kMetrics[] = {
    {"ttft", "TTFT", "Time to First Token", &ServeTotals::ttft},
    {"tpot", "TPOT", "Time per Output Token (excl. 1st token)", &ServeTotals::tpot},
    {"itl", "ITL", "Inter-token Latency", &ServeTotals::itl},
    {"e2el", "E2EL", "End-to-end Latency", &ServeTotals::e2el},
};

const MetricName* FindMetric(absl::string_view key) {
  for (const MetricName& metric : kMetrics) {
    if (key == metric.key) return &metric;
  }
  return nullptr;
}

// "99", "99.9".
std::string PercentileName(double percent) { return absl::StrFormat("%g", percent); }

int64_t Peak(const std::vector<int64_t>& by_second) {
  return by_second.empty() ? 0 : *std::max_element(by_second.begin(), by_second.end());
}

double PerSecond(int64_t count, const ServeReport& report) {
  const double seconds = absl::ToDoubleSeconds(report.elapsed);
  return seconds > 0.0 ? static_cast<double>(count) / seconds : 0.0;
}

std::string Line(const std::string& what, const std::string& value) {
  return absl::StrFormat("%-40s %s\n", what + ":", value);
}

std::string Number(double value) { return absl::StrFormat("%.2f", value); }

std::string Heading(const std::string& text, char fill) {
  constexpr size_t kWidth = 50;
  const size_t room = kWidth - std::min(kWidth, text.size() + 2);
  return std::string(room / 2, fill) + " " + text + " " + std::string(room - room / 2, fill) + "\n";
}

std::string CountLines(const ServeReport& report) {
  const ServeTotals& totals = report.totals;
  std::string text = Line("Successful requests", absl::StrCat(totals.completed));
  text += Line("Failed requests", absl::StrCat(totals.failed));
  text += Line("Refused requests", absl::StrCat(totals.refused.count));
  if (totals.cancelled > 0) text += Line("Cancelled at the end", absl::StrCat(totals.cancelled));
  if (report.max_concurrency > 0)
    text += Line("Maximum request concurrency", absl::StrCat(report.max_concurrency));
  if (std::isfinite(report.request_rate)) {
    text += Line("Request rate configured (RPS)", Number(report.request_rate));
    text += Line("Latest send behind schedule (ms)",
                 Number(absl::ToDoubleMilliseconds(report.latest_send)));
  }
  text += Line("Benchmark duration (s)", Number(absl::ToDoubleSeconds(report.elapsed)));
  text += Line("Total input tokens", absl::StrCat(totals.input_tokens));
  return text + Line("Total generated tokens", absl::StrCat(totals.output_tokens));
}

std::string RateLines(const ServeReport& report) {
  const ServeTotals& totals = report.totals;
  std::string text =
      Line("Request throughput (req/s)", Number(PerSecond(totals.completed, report)));
  if (report.limits.any())
    text += Line("Request goodput (req/s)", Number(PerSecond(totals.good, report)));
  text += Line("Output token throughput (tok/s)", Number(PerSecond(totals.output_tokens, report)));
  text += Line("Peak output token throughput (tok/s)",
               Number(static_cast<double>(Peak(totals.tokens_by_second))));
  text += Line("Peak concurrent requests", absl::StrCat(report.peak_concurrency));
  return text + Line("Total token throughput (tok/s)",
                     Number(PerSecond(totals.input_tokens + totals.output_tokens, report)));
}

std::string LatencyLines(const ServeReport& report) {
  std::string text;
  for (const std::string& key : report.metrics) {
    const MetricName* metric = FindMetric(key);
    const LatencySamples& samples = report.totals.*metric->samples;
    const std::string label = metric->label;
    text += Heading(metric->title, '-');
    text += Line(absl::StrCat("Mean ", label, " (ms)"), Number(samples.mean()));
    text += Line(absl::StrCat("Median ", label, " (ms)"), Number(samples.Percentile(50)));
    text += Line(absl::StrCat("Std ", label, " (ms)"), Number(samples.StandardDeviation()));
    for (const double percent : report.percentiles) {
      text += Line(absl::StrCat("P", PercentileName(percent), " ", label, " (ms)"),
                   Number(samples.Percentile(percent)));
    }
  }
  return text;
}

std::string GapLines(const WorstGap& worst) {
  std::string text = Heading("Worst gap between tokens", '-');
  text += Line("Worst gap (ms)", Number(absl::ToDoubleMilliseconds(worst.gap)));
  if (worst.gap == absl::ZeroDuration()) return text;
  text += Line("Ended after (s)", Number(absl::ToDoubleSeconds(worst.at)));
  return text + Line("In request", absl::StrCat(worst.request, " (", worst.expert, ")"));
}

std::string ErrorLines(const ServeTotals& totals) {
  std::string text;
  if (totals.refused.count > 0) {
    text += Heading("Refused requests", '-');
    text += Line("With a retry hint", absl::StrCat(totals.retry_hints));
    if (totals.retry_hints > 0) {
      text += Line("Shortest, longest hint (ms)",
                   absl::StrCat(absl::ToInt64Milliseconds(totals.shortest_hint), ", ",
                                absl::ToInt64Milliseconds(totals.longest_hint)));
    }
    absl::StrAppend(&text, "  ", totals.refused.example, "\n");
  }
  if (!totals.errors.empty()) text += Heading("Failed requests", '-');
  for (const auto& [code, errors] : totals.errors) {
    text += Line(code, absl::StrCat(errors.count));
    absl::StrAppend(&text, "  ", errors.example, "\n");
  }
  return text;
}

nlohmann::json RunJson(const ServeReport& report) {
  nlohmann::json json = {
      {"date", absl::FormatTime("%Y%m%d-%H%M%S", report.began, absl::UTCTimeZone())},
      {"start_unix_seconds", absl::ToDoubleSeconds(report.began - absl::UnixEpoch())},
      {"burstiness", report.burstiness},
      {"duration", absl::ToDoubleSeconds(report.elapsed)},
      {"max_send_delay_ms", absl::ToDoubleMilliseconds(report.latest_send)},
      {"max_concurrent_requests", report.peak_concurrency}};
  // JSON knows no infinity; this is how Python's tools of this kind write it.
  json["request_rate"] = "inf";
  if (std::isfinite(report.request_rate)) json["request_rate"] = report.request_rate;
  json["max_concurrency"] = nullptr;
  if (report.max_concurrency > 0) json["max_concurrency"] = report.max_concurrency;
  return json;
}

void AddErrors(const ServeTotals& totals, nlohmann::json& json) {
  json["refused"] = {{"count", totals.refused.count}, {"with_retry_hint", totals.retry_hints}};
  if (totals.refused.count > 0) json["refused"]["example"] = totals.refused.example;
  if (totals.retry_hints > 0) {
    json["refused"]["shortest_hint_ms"] = absl::ToDoubleMilliseconds(totals.shortest_hint);
    json["refused"]["longest_hint_ms"] = absl::ToDoubleMilliseconds(totals.longest_hint);
  }
  json["errors"] = nlohmann::json::array();
  for (const auto& [code, errors] : totals.errors) {
    json["errors"].push_back(
        {{"code", code}, {"count", errors.count}, {"example", errors.example}});
  }
}

void AddLatencies(const ServeReport& report, nlohmann::json& json) {
  for (const std::string& key : report.metrics) {
    const LatencySamples& samples = report.totals.*FindMetric(key)->samples;
    json[absl::StrCat("mean_", key, "_ms")] = samples.mean();
    json[absl::StrCat("median_", key, "_ms")] = samples.Percentile(50);
    json[absl::StrCat("std_", key, "_ms")] = samples.StandardDeviation();
    for (const double percent : report.percentiles) {
      json[absl::StrCat("p", PercentileName(percent), "_", key, "_ms")] =
          samples.Percentile(percent);
    }
  }
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ParseMetricNames(const std::string& text) {
  std::vector<std::string> names = absl::StrSplit(text, ',');
  for (const std::string& name : names) {
    if (FindMetric(name) == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("expected ttft, tpot, itl or e2el, found \"", name, "\""));
    }
  }
  return names;
}

absl::StatusOr<std::vector<double>> ParsePercentiles(const std::string& text) {
  std::vector<double> percentiles;
  for (absl::string_view word : absl::StrSplit(text, ',')) {
    double percent = 0.0;
    if (!absl::SimpleAtod(word, &percent) || !(percent >= 0.0 && percent <= 100.0)) {
      return absl::InvalidArgumentError(
          absl::StrCat("expected numbers from 0 to 100, found \"", word, "\""));
    }
    percentiles.push_back(percent);
  }
  return percentiles;
}

std::string ServeTable(const ServeReport& report) {
  return Heading("Serving Benchmark Result", '=') + CountLines(report) + RateLines(report) +
         LatencyLines(report) + GapLines(report.totals.worst_gap) + ErrorLines(report.totals) +
         std::string(50, '=') + "\n";
}

nlohmann::json ServeJson(const ServeReport& report) {
  const ServeTotals& totals = report.totals;
  nlohmann::json json = RunJson(report);
  json["completed"] = totals.completed;
  json["failed"] = totals.failed;
  json["cancelled"] = totals.cancelled;
  json["completed_by_expert"] = totals.completed_by_expert;
  json["total_input_tokens"] = totals.input_tokens;
  json["total_output_tokens"] = totals.output_tokens;
  json["request_throughput"] = PerSecond(totals.completed, report);
  if (report.limits.any()) json["request_goodput"] = PerSecond(totals.good, report);
  json["output_throughput"] = PerSecond(totals.output_tokens, report);
  json["total_token_throughput"] = PerSecond(totals.input_tokens + totals.output_tokens, report);
  json["max_output_tokens_per_s"] = Peak(totals.tokens_by_second);
  json["worst_gap"] = {{"ms", absl::ToDoubleMilliseconds(totals.worst_gap.gap)},
                       {"ended_after_seconds", absl::ToDoubleSeconds(totals.worst_gap.at)},
                       {"request", totals.worst_gap.request},
                       {"expert", totals.worst_gap.expert}};
  json["output_tokens_by_second"] = totals.tokens_by_second;
  json["worst_gap_ms_by_second"] = totals.worst_gap_by_second;
  AddLatencies(report, json);
  AddErrors(totals, json);
  return json;
}

}  // namespace ccoe::cli
