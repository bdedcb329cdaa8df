// SPDX-License-Identifier: Apache-2.0
// `ccoe generate`: answers from a running cluster, or with --offline from the engine in this
// process.
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <iostream>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/tokenizer.h"
#include "services/cli/client/client.h"
#include "services/cli/commands.h"
#include "services/cli/flags.h"
#include "services/cli/output.h"
#include "services/cli/requests.h"
#include "services/common/status_to_grpc.h"
#include "services/gateway/prepared_query.h"
#include "services/offline/collector.h"
#include "services/offline/offline_engine.h"

namespace ccoe::cli {
namespace {

struct GenerateFlags {
  bool offline = false;
  EngineFlags engine;  // offline
  ClientFlags client;  // online
  std::string expert;  // online
  SamplingFlags sampling;
  MoeFlags moe;
  std::string text;      // the question on the command line
  std::string requests;  // or a file of them
  std::vector<std::string> stop;
  std::string tenant;
  int concurrency = 16;
  bool raw = false;
  bool json = false;
};

// An id for the answers of one question.
constexpr char kOnlyId[] = "0";

absl::StatusOr<std::vector<Request>> RequestsOf(const GenerateFlags& flags) {
  if (!flags.requests.empty()) return ReadRequests(flags.requests);
  Request request;
  request.id = kOnlyId;
  request.text = flags.text;
  request.is_text = true;
  return std::vector<Request>{request};
}

// What an error says it is about.
std::string Who(const GenerateFlags& flags, const Request& request) {
  return flags.requests.empty() ? "query" : absl::StrCat("request \"", request.id, "\"");
}

absl::StatusOr<v1::GenerateRequest> BaseRequest(const GenerateFlags& flags) {
  v1::GenerateRequest request;
  request.set_expert(flags.expert);
  request.set_tenant(flags.tenant);
  for (const std::string& stop : flags.stop) request.add_stop(stop);
  ToProto(flags.sampling, request.mutable_sampling());
  CCOE_RETURN_IF_ERROR(SetMoe(flags.moe, request));
  return request;
}

nlohmann::json MoeToJson(const v1::MoeControl& control) {
  std::string text;
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  if (!google::protobuf::util::MessageToJsonString(control, &text, options).ok()) return nullptr;
  return nlohmann::json::parse(text, /*cb=*/nullptr, /*allow_exceptions=*/false);
}

nlohmann::json ToJson(const std::string& id, const StreamedAnswer& answer) {
  const v1::Finished& finished = answer.finished;
  nlohmann::json json = {
      {"id", id},
      {"token_ids", answer.token_ids},
      {"text", answer.text},
      {"finish_reason", finished.reason() == v1::FINISH_REASON_STOP ? "stop" : "length"},
      {"expert", DecisionName(finished.decision())},
      {"why", finished.decision().explanation()},
      {"prompt_tokens", finished.usage().prompt_tokens()},
      {"generated_tokens", finished.usage().generated_tokens()},
      {"preemptions", finished.usage().preemptions()},
      {"failovers", finished.usage().failovers()},
      {"numerics_changed", finished.usage().numerics_changed()},
      {"queue_seconds", finished.usage().queue_seconds()},
      {"prefill_seconds", finished.usage().prefill_seconds()},
      {"decode_seconds", finished.usage().decode_seconds()},
      {"time_to_first_token_seconds", absl::ToDoubleSeconds(answer.time_to_first_token)},
      {"tokens_per_second", answer.TokensPerSecond()}};
  if (finished.has_moe()) json["moe"] = MoeToJson(finished.moe());
  return json;
}

// Why the answer has no more text: an empty one is no riddle.
std::string Ending(const v1::Finished& finished) {
  if (!finished.stop().empty()) return absl::StrCat("a stop string, \"", finished.stop(), "\"");
  return finished.reason() == v1::FINISH_REASON_STOP ? "the end of the sequence" : "its length";
}

// What is said of an answer beside its text, on stderr.
void PrintRemark(const StreamedAnswer& answer) {
  const v1::Decision& decision = answer.finished.decision();
  const v1::Usage& usage = answer.finished.usage();
  std::cerr << absl::StrFormat(
      "[%s: %s; %d tokens, ended by %s, first after %.0f ms, %.1f tokens/s%s%s]\n",
      DecisionName(decision), decision.explanation(), usage.generated_tokens(),
      Ending(answer.finished), absl::ToDoubleMilliseconds(answer.time_to_first_token),
      answer.TokensPerSecond(),
      usage.failovers() > 0 ? absl::StrCat("; ", usage.failovers(), " workers lost on the way")
                            : "",
      usage.numerics_changed() ? ", the last one of another numerics class" : "");
}

// Asks one question; text is shown as it comes.
absl::Status AskOne(const Client& client, const GenerateFlags& flags, const Request& prompt,
                    v1::GenerateRequest request) {
  SetPrompt(prompt, flags.raw, request);
  const auto answer = client.Generate(request, nullptr, [&flags](const std::string& text) {
    if (!flags.json) std::cout << text << std::flush;
  });
  if (!answer.ok()) return Annotate(answer.status(), Who(flags, prompt));
  std::cout << (flags.json ? ToJson(prompt.id, *answer).dump() : "") << "\n";
  if (!flags.json) PrintRemark(*answer);
  return absl::OkStatus();
}

// Asks many questions, --concurrency of them at once. Thread-safe where annotated.
class Asker {
 public:
  // `common` is what every request has in common.
  Asker(const Client* client, const GenerateFlags* flags, const std::vector<Request>* prompts,
        v1::GenerateRequest common)
      : client_(client),
        flags_(flags),
        prompts_(prompts),
        common_(std::move(common)),
        answers_(prompts->size()) {}

  // Prints the answers in the questions' order, each as soon as those before it are out. The first
  // error in that order ends it.
  absl::Status Run() {
    std::vector<std::thread> threads;
    const size_t most = std::min<size_t>(flags_->concurrency, prompts_->size());
    for (size_t t = 0; t < most; ++t) threads.emplace_back([this] { Work(); });
    absl::Status status;
    for (size_t i = 0; i < prompts_->size() && status.ok(); ++i) status = Print(i);
    next_ = kStopped;
    for (std::thread& thread : threads) thread.join();
    return status;
  }

 private:
  static constexpr size_t kStopped = std::numeric_limits<size_t>::max() / 2;

  void Work() ABSL_LOCKS_EXCLUDED(mutex_) {
    for (size_t i = next_++; i < prompts_->size(); i = next_++) {
      v1::GenerateRequest request = common_;
      SetPrompt((*prompts_)[i], flags_->raw, request);
      auto answer = Ask(request);
      absl::MutexLock lock(&mutex_);
      answers_[i] = std::move(answer);
    }
  }

  // A server that is full, maybe of these very questions, says when to come again.
  absl::StatusOr<StreamedAnswer> Ask(const v1::GenerateRequest& request) {
    const absl::Time last = absl::Now() + absl::Seconds(flags_->client.timeout_seconds);
    auto answer = client_->Generate(request);
    while (absl::IsResourceExhausted(answer.status()) && next_ < kStopped) {
      const auto pause = services::RetryAfter(answer.status());
      if (!pause.has_value() || absl::Now() + *pause > last) break;
      absl::SleepFor(*pause);
      answer = client_->Generate(request);
    }
    return answer;
  }

  // Waits for answer `i`.
  absl::Status Print(size_t i) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::StatusOr<StreamedAnswer> answer;
    {
      absl::MutexLock lock(&mutex_);
      const auto there = [this, i]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return answers_[i].has_value();
      };
      mutex_.Await(absl::Condition(&there));
      answer = *std::exchange(answers_[i], std::nullopt);
    }
    const Request& prompt = (*prompts_)[i];
    if (!answer.ok()) return Annotate(answer.status(), Who(*flags_, prompt));
    std::cout << (flags_->json ? ToJson(prompt.id, *answer).dump() : answer->text) << "\n";
    if (!flags_->json) PrintRemark(*answer);
    return FlushStandardOutput();
  }

  const Client* const client_;
  const GenerateFlags* const flags_;
  const std::vector<Request>* const prompts_;
  const v1::GenerateRequest common_;
  std::atomic<size_t> next_{0};
  absl::Mutex mutex_;
  std::vector<std::optional<absl::StatusOr<StreamedAnswer>>> answers_ ABSL_GUARDED_BY(mutex_);
};

absl::Status GenerateOnline(const GenerateFlags& flags) {
  CCOE_ASSIGN_OR_RETURN(const std::vector<Request> prompts, RequestsOf(flags));
  CCOE_ASSIGN_OR_RETURN(const auto client, Client::Create(flags.client));
  CCOE_ASSIGN_OR_RETURN(v1::GenerateRequest request, BaseRequest(flags));
  if (flags.requests.empty()) return AskOne(*client, flags, prompts.front(), std::move(request));
  return Asker(client.get(), &flags, &prompts, std::move(request)).Run();
}

// Without a cluster: the engine in this process.

std::vector<engine::EngineRequest> ToQueries(const std::vector<Request>& requests,
                                             const ExpertRef& expert, const SamplingFlags& sampling,
                                             std::shared_ptr<const engine::MoeControl> moe) {
  std::vector<engine::EngineRequest> queries;
  for (const Request& request : requests) {
    engine::EngineRequest query;
    query.query_id = request.id;
    query.prompt = request.token_ids;
    query.expert = expert;
    query.sampling = ToSamplingParams(sampling);
    query.moe = moe;
    queries.push_back(std::move(query));
  }
  return queries;
}

// As the gateway does it: a text is a user's message in the chat template, or with --raw stands as
// it is. `text` is not null where a request is a text.
absl::Status Tokenize(const GenerateFlags& flags, const services::ModelText* text,
                      std::vector<Request>& requests) {
  for (Request& request : requests) {
    if (!request.is_text) continue;
    v1::GenerateRequest prompt;
    SetPrompt(request, flags.raw, prompt);
    auto ids = prompt.has_chat() ? text->Encode(prompt.chat())
                                 : text->Encode(prompt.text(), /*add_special=*/true);
    if (!ids.ok()) return Annotate(ids.status(), Who(flags, request));
    request.token_ids = *std::move(ids);
  }
  return absl::OkStatus();
}

// Null for a checkpoint without a tokenizer where none is needed: it still gives token ids.
absl::StatusOr<std::unique_ptr<services::ModelText>> TextOfModel(
    const std::string& folder, const std::vector<Request>& requests) {
  const bool needed = std::any_of(requests.begin(), requests.end(),
                                  [](const Request& request) { return request.is_text; });
  if (!needed && !FileExists(absl::StrCat(folder, "/tokenizer.json"))) return nullptr;
  return services::ModelText::Load(folder);
}

void Print(const Request& request, const std::vector<int32_t>& ids, const std::string& text,
           engine::FinishReason reason, bool json) {
  const bool stopped = reason == engine::FinishReason::kStop;
  if (!json) {
    std::cout << text << "\n";
    std::cerr << absl::StrFormat("[%d tokens, ended by %s]\n", ids.size(),
                                 stopped ? "the end of the sequence" : "its length");
    return;
  }
  const nlohmann::json line = {{"id", request.id},
                               {"token_ids", ids},
                               {"text", text},
                               {"finish_reason", stopped ? "stop" : "length"}};
  std::cout << line.dump() << "\n";
}

// Ids that no token has (a vocabulary padded beyond the tokenizer's) give no text, as in the
// gateway's stream.
std::string TextOf(const tokenizer::Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  tokenizer::StreamingDecoder decoder(tokenizer, /*skip_special=*/true);
  std::string text;
  for (int32_t id : ids) text += decoder.Append(id).value_or("");
  return text + decoder.Finish().value_or("");
}

// Prints an answer per request to standard output, in the requests' order.
absl::Status GenerateOffline(const GenerateFlags& flags) {
  CCOE_ASSIGN_OR_RETURN(std::vector<Request> requests, RequestsOf(flags));
  CCOE_ASSIGN_OR_RETURN(const auto model_text, TextOfModel(flags.engine.model, requests));
  CCOE_RETURN_IF_ERROR(Tokenize(flags, model_text.get(), requests));
  CCOE_ASSIGN_OR_RETURN(const auto moe, ToMoeControl(flags.moe));
  CCOE_ASSIGN_OR_RETURN(services::OfflineOptions options, ToOfflineOptions(flags.engine));
  // Who runs the model here is its operator.
  engine::MoePolicy& policy = options.engine.moe_policy;
  policy.allow_active_experts = policy.allow_masks = policy.allow_forced = true;
  CCOE_ASSIGN_OR_RETURN(const auto offline, services::OfflineEngine::Create(options));
  const ExpertRef expert = offline->experts().empty() ? ExpertRef{} : offline->experts().front();
  auto progress = std::make_unique<Progress>("generate", static_cast<int64_t>(requests.size()));
  const auto answers = services::RunQueries(
      offline->engine(), ToQueries(requests, expert, flags.sampling, moe), 256,
      [&progress](size_t done) { progress->Update(static_cast<int64_t>(done)); });
  progress.reset();  // the answers have the terminal to themselves
  for (size_t i = 0; i < requests.size(); ++i) {
    CCOE_RETURN_IF_ERROR(Annotate(answers[i].status, Who(flags, requests[i])));
    std::vector<int32_t> ids;
    for (const engine::GeneratedToken& token : answers[i].tokens) ids.push_back(token.token_id);
    const std::string text = model_text == nullptr ? "" : TextOf(model_text->tokenizer(), ids);
    Print(requests[i], ids, text, answers[i].reason, flags.json);
  }
  return absl::OkStatus();
}

absl::Status Generate(const GenerateFlags& flags) {
  if (flags.text.empty() == flags.requests.empty())
    return UsageError("expected either TEXT or --requests FILE");
  if (!flags.offline) return GenerateOnline(flags);
  if (flags.engine.model.empty()) return UsageError("--offline needs --model");
  return GenerateOffline(flags);
}

void RefuseFlagsOfTheOtherMode(CLI::App* command, CommandContext& context,
                               const std::shared_ptr<GenerateFlags>& flags) {
  const auto offline = [flags] { return flags->offline; };
  const auto online = [flags] { return !flags->offline; };
  AddNoEffect(command, context, offline, "with --offline",
              {"--server", "--timeout", "--stop", "--tenant", "--concurrency"});
  AddNoEffect(command, context, offline, "with --offline: --bundle names an expert's folder",
              {"--expert"});
  AddNoEffect(command, context, online, "without --offline",
              {"--model", "--bundle", "--exchange", "--wire", "--expert-workers", "--replicas",
               "--combine-on-workers", "--threads", "--device", "--math", "--numerics",
               "--prefill-chunk", "--kv-tokens", "--expert-kv-tokens"});
  AddNoEffect(command, context, [flags] { return flags->requests.empty(); }, "without --requests",
              {"--concurrency"});
}

}  // namespace

void RegisterGenerate(CLI::App& app, CommandContext& context) {
  auto flags = std::make_shared<GenerateFlags>();
  CLI::App* command = AddCommand(app, context, "generate",
                                 "Asks a running cluster, or with --offline runs the model here.",
                                 [flags] { return Generate(*flags); });
  AddPositional(command, "text", flags->text, "The question.");
  AddFlag(command, "--requests", flags->requests,
          R"(JSON lines: {"id": "...", "token_ids": [...]} or {"id": "...", "text": "..."}.)");
  AddSwitch(command, "--offline", flags->offline,
            "Run in this process; --model names the model, --bundle an expert's folder.");
  AddEngineFlags(command, flags->engine);
  FindFlag(command, "--model").Optional();
  AddFlag(command, "--expert", flags->expert,
          "The expert: NAME, NAME@VERSION or base; default: the router chooses.");
  AddClientFlags(command, flags->client);
  AddSamplingFlags(command, flags->sampling);
  AddMoeFlags(command, flags->moe);
  AddFlag(command, "--stop", flags->stop, "A string that ends the answer; may be repeated.")
      .OneValueEach();
  AddFlag(command, "--tenant", flags->tenant, "Tenant, for routing rules.");
  AddFlag(command, "--concurrency", flags->concurrency,
          "Requests of --requests that are asked at once; answers come in the requests' order.")
      .Range(1, 256);
  AddSwitch(command, "--raw", flags->raw,
            "Take the text as it stands, without the model's chat template.");
  AddSwitch(command, "--json", flags->json, "Print a JSON line per answer.");
  RefuseFlagsOfTheOtherMode(command, context, flags);
}

}  // namespace ccoe::cli
