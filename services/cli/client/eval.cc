// SPDX-License-Identifier: Apache-2.0
#include "services/cli/client/eval.h"

#include <atomic>
#include <cmath>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/status_macros.h"
#include "services/cli/client/client.h"
#include "services/cli/client/questions.h"
#include "services/cli/commands.h"
#include "services/cli/output.h"

namespace ccoe::cli {
namespace {

struct EvalFlags {
  ClientFlags client;
  std::string questions;
  std::string full_scores;
  int64_t limit = 0;
  int concurrency = 16;
  int64_t max_tokens = 64;
  bool json = false;
};

// One question to one place: an expert's name, or "base".
struct Job {
  const TestQuestion* question = nullptr;
  std::string expert;
  Score* score = nullptr;
};

// Runs jobs on `threads` threads; the first error ends it. Thread-safe where annotated.
class JobRunner {
 public:
  JobRunner(const Client* client, const EvalFlags* flags) : client_(client), flags_(flags) {}

  absl::Status Run(const std::vector<Job>& jobs) {
    Progress progress("eval", static_cast<int64_t>(jobs.size()));
    std::vector<std::thread> threads;
    for (int t = 0; t < flags_->concurrency; ++t) {
      threads.emplace_back([this, &jobs, &progress] { Work(jobs, progress); });
    }
    for (std::thread& thread : threads) thread.join();
    absl::MutexLock lock(&mutex_);
    return error_;
  }

 private:
  void Work(const std::vector<Job>& jobs, Progress& progress) ABSL_LOCKS_EXCLUDED(mutex_) {
    for (size_t i = next_++; i < jobs.size(); i = next_++) {
      const absl::StatusOr<bool> right = Ask(jobs[i]);
      absl::MutexLock lock(&mutex_);
      if (!right.ok()) {
        if (error_.ok())
          error_ =
              Annotate(right.status(), absl::StrCat("question \"", jobs[i].question->id, "\""));
        next_ = jobs.size();
        return;
      }
      ++jobs[i].score->n;
      if (*right) ++jobs[i].score->right;
      progress.Update(++finished_);
    }
  }

  absl::StatusOr<bool> Ask(const Job& job) const {
    v1::GenerateRequest request;
    v1::ChatMessage* message = request.mutable_chat()->add_messages();
    message->set_role("user");
    message->set_content(job.question->question);
    request.set_expert(job.expert);
    request.mutable_sampling()->set_temperature(0);
    request.mutable_sampling()->set_max_tokens(flags_->max_tokens);
    CCOE_ASSIGN_OR_RETURN(const StreamedAnswer answer, client_->Generate(request));
    return IsRight(*job.question, answer.text);
  }

  const Client* const client_;
  const EvalFlags* const flags_;
  std::atomic<size_t> next_{0};
  absl::Mutex mutex_;
  int64_t finished_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status error_ ABSL_GUARDED_BY(mutex_);
};

// How many questions the router sends to `home` ("base", or an expert's name). `routed` counts them
// all, for the progress.
absl::StatusOr<Score> Routed(const Client& client, const std::vector<TestQuestion>& questions,
                             const std::string& home, Progress& progress, int64_t& routed) {
  Score score;
  for (const TestQuestion& question : questions) {
    v1::RouteTextRequest request;
    request.set_text(question.question);
    CCOE_ASSIGN_OR_RETURN(const v1::Decision decision, client.Route(request));
    const std::string& name = decision.expert().name();
    ++score.n;
    progress.Update(++routed);
    if ((name.empty() ? "base" : name) == home) ++score.right;
  }
  return score;
}

absl::Status RouteAll(const Client& client,
                      const std::map<std::string, std::vector<TestQuestion>>& questions,
                      EvalScores& scores) {
  int64_t total = 0;
  for (const auto& [unused, of_domain] : questions) total += static_cast<int64_t>(of_domain.size());
  Progress progress("eval, routes", total);
  int64_t routed = 0;
  for (const auto& [domain, of_domain] : questions) {
    DomainScores& row = scores[domain];
    CCOE_ASSIGN_OR_RETURN(
        row.routed,
        Routed(client, of_domain, row.expert.has_value() ? domain : "base", progress, routed));
  }
  return absl::OkStatus();
}

absl::Status ReadFull(const EvalFlags& flags, EvalScores& scores) {
  const std::string path =
      flags.full_scores.empty() ? flags.questions + "/scores.json" : flags.full_scores;
  if (flags.full_scores.empty() && !FileExists(path)) return absl::OkStatus();
  CCOE_ASSIGN_OR_RETURN(const auto full, ReadFullScores(path));
  for (auto& [domain, row] : scores) {
    if (auto it = full.find(domain); it != full.end()) row.full = it->second;
  }
  return absl::OkStatus();
}

absl::Status Eval(const EvalFlags& flags) {
  CCOE_ASSIGN_OR_RETURN(const auto questions,
                        ReadTestQuestions(flags.questions, static_cast<size_t>(flags.limit)));
  CCOE_ASSIGN_OR_RETURN(const auto client, Client::Create(flags.client));
  CCOE_ASSIGN_OR_RETURN(const v1::ListExpertsResponse listed, client->ListExperts());
  std::set<std::string> experts;
  for (const v1::ExpertInfo& info : listed.experts()) experts.insert(info.expert().name());

  EvalScores scores;
  std::vector<Job> jobs;
  for (const auto& [domain, of_domain] : questions) {
    DomainScores& row = scores[domain];
    const bool has_expert = experts.count(domain) > 0;
    if (has_expert) row.expert.emplace();
    for (const TestQuestion& question : of_domain) {
      jobs.push_back({&question, "base", &row.base});
      if (has_expert) jobs.push_back({&question, domain, &*row.expert});
    }
  }
  CCOE_RETURN_IF_ERROR(RouteAll(*client, questions, scores));
  CCOE_RETURN_IF_ERROR(JobRunner(client.get(), &flags).Run(jobs));
  CCOE_RETURN_IF_ERROR(ReadFull(flags, scores));
  std::cout << (flags.json ? EvalJson(scores).dump() + "\n" : EvalTable(scores));
  return absl::OkStatus();
}

constexpr double kZ = 1.959963984540054;  // 97.5th percentile of the normal distribution
constexpr int64_t kMaxFileBytes = 1 << 20;

std::string Cell(const std::optional<Score>& score) {
  if (!score.has_value() || score->n == 0) return absl::StrFormat("%19s", "-");
  const Interval interval = WilsonInterval(*score);
  return absl::StrFormat("%5.1f [%5.1f, %5.1f]", score->Percent(), interval.low, interval.high);
}

nlohmann::json CellJson(const std::optional<Score>& score) {
  if (!score.has_value() || score->n == 0) return nullptr;
  const Interval interval = WilsonInterval(*score);
  return {{"right", score->right},
          {"n", score->n},
          {"percent", score->Percent()},
          {"low", interval.low},
          {"high", interval.high}};
}

}  // namespace

Interval WilsonInterval(const Score& score) {
  if (score.n == 0) return {0.0, 100.0};
  const double n = static_cast<double>(score.n);
  const double p = static_cast<double>(score.right) / n;
  const double scale = 1.0 + kZ * kZ / n;
  const double centre = (p + kZ * kZ / (2 * n)) / scale;
  const double half = kZ * std::sqrt(p * (1 - p) / n + kZ * kZ / (4 * n * n)) / scale;
  return {100.0 * std::fmax(0.0, centre - half), 100.0 * std::fmin(1.0, centre + half)};
}

absl::StatusOr<std::map<std::string, Score>> ReadFullScores(const std::string& path) {
  CCOE_ASSIGN_OR_RETURN(const nlohmann::json json, ReadJsonFile(path, kMaxFileBytes));
  if (!json.is_object() || !json.contains("full") || !json["full"].is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": expected {\"full\": {DOMAIN: {DOMAIN: ...}}}"));
  }
  std::map<std::string, Score> scores;
  for (const auto& [domain, tuned] : json["full"].items()) {
    if (!tuned.is_object() || !tuned.contains(domain)) continue;
    const nlohmann::json& own = tuned[domain];
    if (!own.is_object() || !own.contains("right") || !own.contains("n") ||
        !own["right"].is_number_integer() || !own["n"].is_number_integer()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": full.", domain, ".", domain,
                                                     ": expected {\"right\": N, \"n\": N}"));
    }
    scores[domain] = {own["right"].get<int64_t>(), own["n"].get<int64_t>()};
  }
  return scores;
}

std::string EvalTable(const EvalScores& scores) {
  std::string table =
      "domain     questions                base              expert      full fine-tune  routed\n";
  for (const auto& [domain, row] : scores) {
    absl::StrAppendFormat(&table, "%-10s %9d %s %s %s %6.1f%%\n", domain, row.base.n,
                          Cell(row.base), Cell(row.expert), Cell(row.full), row.routed.Percent());
  }
  table +=
      "Percent of questions answered rightly [95 % interval]; routed: percent that the router "
      "sends to the right place.\n";
  return table;
}

nlohmann::json EvalJson(const EvalScores& scores) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [domain, row] : scores) {
    json[domain] = {{"base", CellJson(row.base)},
                    {"expert", CellJson(row.expert)},
                    {"full", CellJson(row.full)},
                    {"routed", CellJson(row.routed)}};
  }
  return json;
}

void RegisterEval(CLI::App& app, CommandContext& context) {
  auto flags = std::make_shared<EvalFlags>();
  CLI::App* command =
      AddCommand(app, context, "eval",
                 "Asks the running cluster test questions: base, expert, full fine-tune.",
                 [flags] { return Eval(*flags); });
  AddClientFlags(command, flags->client);
  AddFlag(command, "--questions", flags->questions, "Folder of DOMAIN.jsonl files.").Required();
  AddFlag(command, "--full-scores", flags->full_scores,
          "Scores of full fine-tunes, written by the training recipe; default: scores.json in the "
          "questions' folder.");
  AddFlag(command, "--limit", flags->limit, "Questions a domain; 0: all.")
      .Range(int64_t{0}, int64_t{1} << 30);
  AddFlag(command, "--concurrency", flags->concurrency, "Questions asked at once.").Range(1, 256);
  AddFlag(command, "--max-tokens", flags->max_tokens, "Longest answer.")
      .Range(int64_t{1}, int64_t{65536});
  AddSwitch(command, "--json", flags->json, "Print JSON.");
}

}  // namespace ccoe::cli
