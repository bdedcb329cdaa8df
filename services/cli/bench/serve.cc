// SPDX-License-Identifier: Apache-2.0
#include "services/cli/bench/serve.h"

#include <cmath>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/base/status_macros.h"
#include "services/cli/bench/answer_record.h"
#include "services/cli/bench/load_run.h"
#include "services/cli/bench/load_schedule.h"
#include "services/cli/bench/serve_metrics.h"
#include "services/cli/bench/serve_report.h"
#include "services/cli/client/client.h"
#include "services/cli/commands.h"
#include "services/cli/output.h"
#include "services/cli/requests.h"
#include "services/common/signals.h"

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

// Whether the server takes token id `id`.
absl::StatusOr<bool> TakesId(const Client& client, int32_t id) {
  v1::TokenizeRequest request;
  request.mutable_token_ids()->add_ids(id);
  const absl::Status status = client.Tokenize(request).status();
  if (absl::IsInvalidArgument(status)) return false;
  CCOE_RETURN_IF_ERROR(status);
  return true;
}

absl::StatusOr<LoadPrompts> MakePrompts(const BenchServeFlags& flags, const Client& client) {
  if (flags.dataset == "custom") {
    CCOE_ASSIGN_OR_RETURN(auto requests, ReadRequests(flags.dataset_path));
    return FilePrompts(std::move(requests), flags.custom_output);
  }
  RandomPromptOptions options;
  // No call says how large the vocabulary is; 32 small ones find out.
  CCOE_ASSIGN_OR_RETURN(options.vocabulary,
                        FindVocabulary([&client](int32_t id) { return TakesId(client, id); }));
  options.input_tokens = flags.random_input;
  options.output_tokens = flags.random_output;
  options.range_ratio = flags.random_range_ratio;
  options.prefix_tokens = flags.random_prefix;
  options.seed = static_cast<uint64_t>(flags.seed);
  return RandomPrompts(options);
}

// Also finds out whether a server is there, before anything is measured.
absl::StatusOr<ExpertChoice> MakeExperts(const BenchServeFlags& flags, const Client& client) {
  CCOE_ASSIGN_OR_RETURN(const v1::ListExpertsResponse listed, client.ListExperts());
  std::vector<std::string> experts = flags.experts;
  if (flags.all_experts) {
    for (const v1::ExpertInfo& info : listed.experts())
      experts.push_back(absl::StrCat(info.expert().name(), "@", info.expert().version()));
    if (experts.empty())
      return absl::FailedPreconditionError("--all-experts: the server has no expert now");
  }
  return ExpertChoice(std::move(experts), flags.zipf, static_cast<uint64_t>(flags.seed));
}

class BenchWorkload final : public Workload {
 public:
  BenchWorkload(const BenchServeFlags& flags, const LoadRunOptions& load,
                const GoodputLimits& limits, LoadPrompts prompts, ExpertChoice experts,
                AnswerFiles files)
      : flags_(flags),
        prompts_(std::move(prompts)),
        experts_(std::move(experts)),
        files_(std::move(files)),
        metrics_(limits),
        by_count_(load.requests > 0) {
    progress_.emplace(by_count_ ? "bench serve" : "bench serve, seconds",
                      by_count_ ? load.requests : absl::ToInt64Seconds(load.duration));
  }

  v1::GenerateRequest Make(int64_t index) override {
    const LoadPrompt prompt = prompts_(index);
    v1::GenerateRequest request;
    SetPrompt(prompt.request, flags_.raw, request);
    request.set_expert(experts_.Expert(index));
    *request.mutable_sampling() = ToSampling(flags_, index, prompt.output_tokens);
    return request;
  }

  void OnServed(const ServedRequest& request) override {
    ++ended_;
    metrics_.Add(request);
    files_.Add(request, prompts_);
    if (first_error_.ok() && !request.cancelled) first_error_ = request.status;
  }

  void OnTick(absl::Duration elapsed, int64_t in_flight) override {
    const ServeTotals& totals = metrics_.totals();
    progress_->Update(by_count_ ? ended_ : absl::ToInt64Seconds(elapsed),
                      absl::StrCat(in_flight, " under way, ", totals.completed, " done, ",
                                   totals.failed, " failed, ", totals.refused.count, " refused"));
  }

  // No tick comes any more: the report has the terminal to itself.
  void EndProgress() { progress_.reset(); }
  const ServeTotals& totals() const { return metrics_.totals(); }
  AnswerFiles& files() { return files_; }
  const absl::Status& first_error() const { return first_error_; }

 private:
  const BenchServeFlags& flags_;
  const LoadPrompts prompts_;
  const ExpertChoice experts_;
  AnswerFiles files_;
  ServeMetrics metrics_;
  const bool by_count_;
  std::optional<Progress> progress_;
  int64_t ended_ = 0;
  absl::Status first_error_;
};

absl::Status Publish(const BenchServeFlags& flags, const ServeReport& report) {
  std::cout << (flags.json ? ServeJson(report).dump() + "\n" : ServeTable(report)) << std::flush;
  if (!flags.save_result) return absl::OkStatus();
  const std::string path = ResultPath(flags, report);
  CCOE_RETURN_IF_ERROR(WriteFileAtomically(path, {ServeJson(report).dump(), "\n"}));
  std::cerr << "report written to " << path << "\n";
  return absl::OkStatus();
}

// What the run proved, after the report is out.
absl::Status Judge(BenchWorkload& workload) {
  AnswerFiles& files = workload.files();
  if (files.recorder != nullptr) CCOE_RETURN_IF_ERROR(files.recorder->Finish());
  if (workload.totals().completed == 0 && !workload.first_error().ok())
    return Annotate(workload.first_error(), "no request was answered; the first error");
  if (!files.comparison.has_value()) return absl::OkStatus();
  CCOE_RETURN_IF_ERROR_IN(files.comparison->Verdict(), "answers compared");
  std::cerr << "answers compared: " << files.comparison->Summary() << "\n";
  return absl::OkStatus();
}

absl::Status BenchServe(const BenchServeFlags& flags) {
  CCOE_RETURN_IF_ERROR(CheckBenchServeFlags(flags));
  CCOE_ASSIGN_OR_RETURN(ServeReport report, ToServeReport(flags));
  const LoadRunOptions load = ToLoadRunOptions(flags);
  CCOE_ASSIGN_OR_RETURN(const auto client, Client::Create(flags.client));
  CCOE_ASSIGN_OR_RETURN(ExpertChoice experts, MakeExperts(flags, *client));
  CCOE_ASSIGN_OR_RETURN(LoadPrompts prompts, MakePrompts(flags, *client));
  CCOE_ASSIGN_OR_RETURN(
      AnswerFiles files,
      AnswerFiles::Open(flags.record, flags.compare, /*by_prompt=*/flags.temperature == 0.0));
  auto workload = std::make_unique<BenchWorkload>(flags, load, report.limits, std::move(prompts),
                                                  std::move(experts), std::move(files));
  CCOE_ASSIGN_OR_RETURN(const auto load_client, LoadClient::Create(flags.client));
  LoadRun run(load, load_client.get(), workload.get());
  CCOE_ASSIGN_OR_RETURN(const auto signals,
                        services::SignalWatcher::Create([&run](int) { run.Stop(); }));
  report.began = absl::Now();
  const LoadRunResult result = run.Run();
  workload->EndProgress();
  report.totals = workload->totals();
  report.elapsed = result.elapsed;
  report.peak_concurrency = result.peak_concurrency;
  report.latest_send = result.latest_send;
  CCOE_RETURN_IF_ERROR(Publish(flags, report));
  return Judge(*workload);
}

}  // namespace

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

void RegisterBenchServe(CLI::App& bench, CommandContext& context) {
  auto flags = std::make_shared<BenchServeFlags>();
  CLI::App* command = AddCommand(
      bench, context, "serve",
      "Puts a load on a running server: closed loop (--max-concurrency) or open (--request-rate). "
      "TTFT is the time to the first token, TPOT the time a token after it, ITL the gap between "
      "two messages with tokens, E2EL the time to the last token. SIGINT ends the run with the "
      "report so far.",
      [flags] { return BenchServe(*flags); });
  AddClientFlags(command, flags->client);
  AddLoadFlags(command, *flags);
  AddPromptFlags(command, *flags);
  AddChoiceFlags(command, *flags);
  AddReportFlags(command, *flags);
  AddNoEffect(
      command, context, [flags] { return flags->dataset == "custom"; },
      "with --dataset-name custom",
      {"--random-input-len", "--random-output-len", "--random-range-ratio", "--random-prefix-len"});
  AddNoEffect(command, context, [flags] { return flags->dataset != "custom"; },
              "without --dataset-name custom", {"--custom-output-len", "--raw"});
  AddNoEffect(command, context, [flags] { return std::isinf(flags->request_rate); },
              "without --request-rate", {"--burstiness"});
  AddNoEffect(command, context, [flags] { return !flags->save_result; }, "without --save-result",
              {"--result-dir", "--result-filename"});
}

}  // namespace ccoe::cli
