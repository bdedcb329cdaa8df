#include "services/cli/bench_serve_flags.h"

#include <cmath>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/base/status_macros.h"
#include "services/cli/load_schedule.h"

namespace ccoe::cli {
namespace {

constexpr int64_t kDefaultPrompts = 1000;
constexpr int64_t kMostTokens = 1 << 20;
constexpr double kWeekSeconds = 7 * 24 * 3600;

void AddLoadFlags(CLI::App* command, BenchServeFlags& flags) {
  AddFlag(command, "--num-prompts", flags.num_prompts,
          "Requests to send. Default: 1000, or with --duration as many as it takes.")
      .Range(int64_t{1}, int64_t{1} << 40)
      .ShownDefault("1000");
  AddFlag(command, "--duration", flags.duration_seconds,
          "Seconds to send requests for; those under way then may end. With --num-prompts, "
          "whichever comes first.")
      .Range(0.001, kWeekSeconds)
      .ShownDefault("no end");
  AddFlag(command, "--request-rate", flags.request_rate,
          "Open loop: requests a second, whatever the server does; inf: as soon as "
          "--max-concurrency lets it.");
  AddFlag(command, "--burstiness", flags.burstiness,
          "Shape of the gamma distribution of the times between requests of an open loop: 1 is "
          "Poisson, less comes in bursts, more comes evenly.")
      .Range(0.001, 1e6);
  AddFlag(command, "--max-concurrency", flags.max_concurrency,
          "Requests under way at once. With --request-rate inf a closed loop of so many clients: "
          "each sends when its last request has ended, and after a refusal when the server said "
          "to come back. 0: no limit.")
      .Range(int64_t{0}, kMostAtOnce);
  AddFlag(command, "--seed", flags.seed,
          "Of prompts, lengths, experts and arrivals: two runs with one seed send the same.")
      .NonNegative();
}

void AddPromptFlags(CLI::App* command, BenchServeFlags& flags) {
  AddFlag(command, "--dataset-name", flags.dataset,
          "random: random token ids; custom: the requests of --dataset-path.")
      .OneOf({"random", "custom"});
  AddFlag(command, "--dataset-path", flags.dataset_path,
          R"(JSON lines: {"id": "...", "token_ids": [...]} or {"id": "...", "text": "..."}; )"
          "from the first again after the last.");
  AddFlag(command, "--random-input-len", flags.random_input, "Tokens of a random prompt.")
      .Range(int64_t{1}, kMostTokens);
  AddFlag(command, "--random-output-len", flags.random_output, "Longest answer to one.")
      .Range(int64_t{1}, kMostTokens);
  AddFlag(command, "--random-range-ratio", flags.random_range_ratio,
          "Both lengths are drawn from [len * (1 - ratio), len * (1 + ratio)]; ratio below 1.")
      .Range(0.0, 0.999999);
  AddFlag(command, "--random-prefix-len", flags.random_prefix,
          "Tokens in front of every random prompt, the same for all.")
      .Range(int64_t{0}, kMostTokens);
  AddFlag(command, "--custom-output-len", flags.custom_output,
          "Longest answer to a request of --dataset-path.")
      .Range(int64_t{1}, kMostTokens);
  AddSwitch(command, "--raw", flags.raw,
            "Send texts as they stand, without the model's chat template.");
}

void AddChoiceFlags(CLI::App* command, BenchServeFlags& flags) {
  AddFlag(command, "--expert", flags.experts,
          "An expert to ask for (NAME, NAME@VERSION or base); may be repeated. Default: none, the "
          "router chooses.")
      .OneValueEach()
      .ShownDefault("none");
  AddSwitch(command, "--all-experts", flags.all_experts,
            "Ask for all experts that the server has.");
  AddFlag(command, "--zipf", flags.zipf,
          "The k-th of the experts is asked for with a probability proportional to 1 / k^ZIPF; 0: "
          "all alike.")
      .Range(0.0, 100.0);
  AddFlag(command, "--temperature", flags.temperature, "0: the likeliest token, always.")
      .Range(0.0, 10.0);
  AddFlag(command, "--top-k", flags.top_k, "Keep the k likeliest tokens; 0: all.").NonNegative();
  AddFlag(command, "--top-p", flags.top_p, "Keep the likeliest tokens up to this mass.");
  AddSwitch(command, "--ignore-eos", flags.ignore_eos,
            "Go on after the end of a sequence, to the longest answer.");
}

void AddReportFlags(CLI::App* command, BenchServeFlags& flags) {
  AddFlag(command, "--goodput", flags.goodput,
          "Limits in ms, as ttft:100 tpot:20 e2el:2000: requests a second that kept them all are "
          "reported.")
      .ShownDefault("none");
  AddFlag(command, "--percentile-metrics", flags.percentile_metrics,
          "The latencies to report: any of ttft, tpot, itl, e2el, with commas.");
  AddFlag(command, "--metric-percentiles", flags.metric_percentiles,
          "The percentiles of each, with commas: 50,99.9.");
  AddSwitch(command, "--save-result", flags.save_result, "Write the report to a JSON file too.");
  AddFlag(command, "--result-dir", flags.result_dir, "Its folder.");
  AddFlag(command, "--result-filename", flags.result_filename,
          "Its name. Default: one that says the load and the date.");
  AddFlag(
      command, "--record", flags.record,
      "Write each answer's token ids with its prompt and expert to this file, a JSON line each.");
  AddFlag(command, "--compare", flags.compare,
          "Compare each answer with a file of --record, of a run with the same flags: prompt, "
          "expert and token ids. Exit code 1 where one differs or failed; refused requests and "
          "those that the file lacks are left out.");
  AddSwitch(command, "--json", flags.json, "Print JSON.");
}

// Under whatever names; false where one is empty or not there.
bool IsSameFile(const std::string& a, const std::string& b) {
  std::error_code missing;
  return !a.empty() && (a == b || std::filesystem::equivalent(a, b, missing));
}

}  // namespace

void AddBenchServeFlags(CLI::App* command, BenchServeFlags& flags) {
  AddClientFlags(command, flags.client);
  AddLoadFlags(command, flags);
  AddPromptFlags(command, flags);
  AddChoiceFlags(command, flags);
  AddReportFlags(command, flags);
}

absl::Status CheckBenchServeFlags(const BenchServeFlags& flags) {
  if (!(flags.request_rate > 0.0))
    return UsageError(
        absl::StrCat("--request-rate: expected more than 0, or inf, found ", flags.request_rate));
  if (std::isinf(flags.request_rate) && flags.duration_seconds > 0.0 &&
      flags.max_concurrency == 0) {
    return UsageError("--duration needs --request-rate or --max-concurrency: it is no load alone");
  }
  if ((flags.dataset == "custom") == flags.dataset_path.empty())
    return UsageError("--dataset-path FILE goes with --dataset-name custom, and only with it");
  if (flags.all_experts && !flags.experts.empty())
    return UsageError("expected either --expert or --all-experts");
  if (flags.zipf > 0.0 && !flags.all_experts && flags.experts.empty())
    return UsageError("--zipf needs --expert or --all-experts: the router chooses otherwise");
  if (IsSameFile(flags.record, flags.compare))
    return UsageError("--record would write over the file of --compare");
  if (IsSameFile(flags.record, flags.dataset_path))
    return UsageError("--record would write over the file of --dataset-path");
  return absl::OkStatus();
}

LoadRunOptions ToLoadRunOptions(const BenchServeFlags& flags) {
  LoadRunOptions options;
  if (flags.duration_seconds > 0.0) options.duration = absl::Seconds(flags.duration_seconds);
  options.requests = flags.num_prompts;
  if (flags.num_prompts == 0 && flags.duration_seconds <= 0.0) options.requests = kDefaultPrompts;
  options.arrivals = {flags.request_rate, flags.burstiness, static_cast<uint64_t>(flags.seed)};
  options.max_concurrency = flags.max_concurrency;
  return options;
}

absl::StatusOr<ServeReport> ToServeReport(const BenchServeFlags& flags) {
  const auto as_usage = [](absl::string_view flag, const absl::Status& status) {
    return UsageError(absl::StrCat(flag, ": ", status.message()));
  };
  ServeReport report;
  const auto limits = ParseGoodput(flags.goodput);
  if (!limits.ok()) return as_usage("--goodput", limits.status());
  report.limits = *limits;
  const auto metrics = ParseMetricNames(flags.percentile_metrics);
  if (!metrics.ok()) return as_usage("--percentile-metrics", metrics.status());
  report.metrics = *metrics;
  const auto percentiles = ParsePercentiles(flags.metric_percentiles);
  if (!percentiles.ok()) return as_usage("--metric-percentiles", percentiles.status());
  report.percentiles = *percentiles;
  report.request_rate = flags.request_rate;
  report.burstiness = flags.burstiness;
  report.max_concurrency = flags.max_concurrency;
  return report;
}

v1::Sampling ToSampling(const BenchServeFlags& flags, int64_t index, int64_t output_tokens) {
  v1::Sampling sampling;
  sampling.set_temperature(flags.temperature);
  sampling.set_top_k(flags.top_k);
  sampling.set_top_p(flags.top_p);
  sampling.set_seed(LoadRandom(static_cast<uint64_t>(flags.seed), LoadStream::kSampling, index)());
  sampling.set_max_tokens(output_tokens);
  sampling.set_ignore_eos(flags.ignore_eos);
  return sampling;
}

std::string ResultPath(const BenchServeFlags& flags, const ServeReport& report) {
  std::string name = flags.result_filename;
  if (name.empty()) {
    name = absl::StrFormat("ccoe-%gqps", flags.request_rate);
    if (flags.max_concurrency > 0) absl::StrAppend(&name, "-concurrency", flags.max_concurrency);
    absl::StrAppend(&name, "-",
                    absl::FormatTime("%Y%m%d-%H%M%S", report.began, absl::UTCTimeZone()), ".json");
  }
  return absl::StrCat(flags.result_dir.empty() ? "." : flags.result_dir, "/", name);
}

}  // namespace ccoe::cli
