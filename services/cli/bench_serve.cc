#include "services/cli/bench_serve.h"

#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/file.h"
#include "runtime/base/status_macros.h"
#include "services/cli/answer_record.h"
#include "services/cli/bench_serve_flags.h"
#include "services/cli/client.h"
#include "services/cli/load_client.h"
#include "services/cli/load_prompts.h"
#include "services/cli/load_run.h"
#include "services/cli/load_schedule.h"
#include "services/cli/progress.h"
#include "services/cli/requests.h"
#include "services/cli/serve_metrics.h"
#include "services/cli/serve_report.h"
#include "services/common/signals.h"

namespace ccoe::cli {
namespace {

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

// The files of --record and --compare.
struct AnswerFiles {
  std::unique_ptr<AnswerRecorder> recorder;  // may be null
  std::optional<AnswerComparison> comparison;

  static absl::StatusOr<AnswerFiles> Open(const BenchServeFlags& flags) {
    AnswerFiles files;
    if (!flags.compare.empty()) {
      CCOE_ASSIGN_OR_RETURN(files.comparison, AnswerComparison::Read(flags.compare));
      if (flags.temperature == 0.0) files.comparison->CompareByPrompt();
    }
    if (!flags.record.empty()) {
      CCOE_ASSIGN_OR_RETURN(files.recorder, AnswerRecorder::Create(flags.record));
    }
    return files;
  }

  void Add(const ServedRequest& served, const LoadPrompts& prompts) {
    if (recorder == nullptr && !comparison.has_value()) return;
    // Made once more rather than kept: a run may be longer than memory.
    const RecordedAnswer answer{served.index, prompts(served.index).request, served.expert,
                                served.token_ids};
    if (served.status.ok()) {
      if (recorder != nullptr) recorder->Add(answer);
      if (comparison.has_value()) comparison->Add(answer);
    } else if (comparison.has_value() && !served.cancelled &&
               !absl::IsResourceExhausted(served.status)) {
      comparison->AddFailure(served.index, answer.request, served.status);
    }
  }
};

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
  CCOE_RETURN_IF_ERROR(Annotate(files.comparison->Verdict(), "answers compared"));
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
  CCOE_ASSIGN_OR_RETURN(AnswerFiles files, AnswerFiles::Open(flags));
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

void RegisterBenchServe(CLI::App& bench, CommandContext& context) {
  auto flags = std::make_shared<BenchServeFlags>();
  CLI::App* command = AddCommand(
      bench, context, "serve",
      "Puts a load on a running server: closed loop (--max-concurrency) or open (--request-rate). "
      "TTFT is the time to the first token, TPOT the time a token after it, ITL the gap between "
      "two messages with tokens, E2EL the time to the last token. SIGINT ends the run with the "
      "report so far.",
      [flags] { return BenchServe(*flags); });
  AddBenchServeFlags(command, *flags);
}

}  // namespace ccoe::cli
