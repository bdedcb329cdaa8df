// SPDX-License-Identifier: Apache-2.0
// `ccoe generate`: answers from a running cluster, or with --offline from the engine in this
// process.
#include <google/protobuf/util/json_util.h>

#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/tokenizer.h"
#include "services/cli/client/client.h"
#include "services/cli/commands.h"
#include "services/cli/flags.h"
#include "services/cli/output.h"
#include "services/cli/requests.h"
#include "services/offline/collector.h"
#include "services/offline/offline_engine.h"

namespace ccoe::cli {
namespace {

struct GenerateFlags {
  bool offline = false;
  EngineFlags engine;  // offline: --expert is a bundle's folder; else an expert's name
  ClientFlags client;
  SamplingFlags sampling;
  MoeFlags moe;
  std::string text;      // the question on the command line
  std::string requests;  // or a file of them
  std::vector<std::string> stop;
  std::string tenant;
  bool raw = false;
  bool json = false;
};

absl::StatusOr<v1::GenerateRequest> BaseRequest(const GenerateFlags& flags) {
  v1::GenerateRequest request;
  request.set_expert(flags.engine.expert);
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

// Asks once; streams text to standard output, or prints a JSON line at the end.
absl::Status Ask(const Client& client, const GenerateFlags& flags, const std::string& id,
                 const v1::GenerateRequest& request) {
  const auto stream = [&flags](const std::string& text) {
    if (!flags.json) std::cout << text << std::flush;
  };
  auto answer = client.Generate(request, nullptr, stream);
  if (!answer.ok())
    return Annotate(answer.status(),
                    flags.requests.empty() ? "query" : absl::StrCat("request \"", id, "\""));
  if (flags.json) {
    std::cout << ToJson(id, *answer).dump() << "\n";
    return FlushStandardOutput();
  }
  std::cout << "\n";
  const v1::Decision& decision = answer->finished.decision();
  const v1::Usage& usage = answer->finished.usage();
  std::cerr << absl::StrFormat(
      "[%s: %s; %d tokens, first after %.0f ms, %.1f tokens/s%s%s]\n", DecisionName(decision),
      decision.explanation(), usage.generated_tokens(),
      absl::ToDoubleMilliseconds(answer->time_to_first_token), answer->TokensPerSecond(),
      usage.failovers() > 0 ? absl::StrCat("; ", usage.failovers(), " workers lost on the way")
                            : "",
      usage.numerics_changed() ? ", the last one of another numerics class" : "");
  return FlushStandardOutput();
}

absl::Status GenerateOnline(const GenerateFlags& flags) {
  CCOE_ASSIGN_OR_RETURN(const auto client, Client::Create(flags.client));
  CCOE_ASSIGN_OR_RETURN(v1::GenerateRequest request, BaseRequest(flags));
  if (flags.requests.empty()) {
    Request prompt;
    prompt.is_text = true;
    prompt.text = flags.text;
    SetPrompt(prompt, flags.raw, request);
    return Ask(*client, flags, "0", request);
  }
  CCOE_ASSIGN_OR_RETURN(const std::vector<Request> requests, ReadRequests(flags.requests));
  for (const Request& one : requests) {
    SetPrompt(one, flags.raw, request);
    CCOE_RETURN_IF_ERROR(Ask(*client, flags, one.id, request));
  }
  return absl::OkStatus();
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

absl::StatusOr<std::vector<Request>> RequestsOf(const GenerateFlags& flags) {
  std::vector<Request> requests;
  if (!flags.requests.empty()) {
    CCOE_ASSIGN_OR_RETURN(requests, ReadRequests(flags.requests));
  } else {
    Request request;
    request.id = "0";
    request.text = flags.text;
    request.is_text = true;
    requests.push_back(std::move(request));
  }
  CCOE_RETURN_IF_ERROR(TokenizeRequests(flags.engine.model, requests));
  return requests;
}

void Print(const Request& request, const std::vector<int32_t>& ids, const std::string& text,
           engine::FinishReason reason, bool json) {
  if (!json) {
    std::cout << text << "\n";
    return;
  }
  const nlohmann::json line = {
      {"id", request.id},
      {"token_ids", ids},
      {"text", text},
      {"finish_reason", reason == engine::FinishReason::kStop ? "stop" : "length"}};
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
  if (!flags.stop.empty())
    return UsageError("--stop goes without --offline: stop strings are the gateway's");
  CCOE_ASSIGN_OR_RETURN(const std::vector<Request> requests, RequestsOf(flags));
  CCOE_ASSIGN_OR_RETURN(const auto moe, ToMoeControl(flags.moe));
  CCOE_ASSIGN_OR_RETURN(services::OfflineOptions options, ToOfflineOptions(flags.engine));
  // Who runs the model here is its operator.
  engine::MoePolicy& policy = options.engine.moe_policy;
  policy.allow_active_experts = policy.allow_masks = policy.allow_forced = true;
  CCOE_ASSIGN_OR_RETURN(const auto offline, services::OfflineEngine::Create(options));
  std::unique_ptr<tokenizer::Tokenizer>
      tokenizer;  // a checkpoint without one still gives token ids
  if (FileExists(absl::StrCat(flags.engine.model, "/tokenizer.json"))) {
    CCOE_ASSIGN_OR_RETURN(tokenizer, tokenizer::Tokenizer::Load(flags.engine.model));
  }
  const ExpertRef expert = offline->experts().empty() ? ExpertRef{} : offline->experts().front();
  Progress progress("generate", static_cast<int64_t>(requests.size()));
  const auto answers = services::RunQueries(
      offline->engine(), ToQueries(requests, expert, flags.sampling, moe), 256,
      [&progress](size_t done) { progress.Update(static_cast<int64_t>(done)); });
  for (size_t i = 0; i < requests.size(); ++i) {
    CCOE_RETURN_IF_ERROR(
        Annotate(answers[i].status, absl::StrCat("request \"", requests[i].id, "\"")));
    std::vector<int32_t> ids;
    for (const engine::GeneratedToken& token : answers[i].tokens) ids.push_back(token.token_id);
    const std::string text = tokenizer == nullptr ? "" : TextOf(*tokenizer, ids);
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
            "Run in this process; --model names the model, --expert a bundle's folder.");
  AddEngineFlags(command, flags->engine);
  FindFlag(command, "--model").Optional();
  FindFlag(command, "--expert")
      .Help(
          "The expert: NAME, NAME@VERSION or base; default: the router chooses. "
          "With --offline the folder of a bundle.");
  AddClientFlags(command, flags->client);
  AddSamplingFlags(command, flags->sampling);
  AddMoeFlags(command, flags->moe);
  AddFlag(command, "--stop", flags->stop, "A string that ends the answer; may be repeated.");
  AddFlag(command, "--tenant", flags->tenant, "Tenant, for routing rules.");
  AddSwitch(command, "--raw", flags->raw,
            "Send the text as it stands, without the model's chat template.");
  AddSwitch(command, "--json", flags->json, "Print a JSON line per answer.");
}

}  // namespace ccoe::cli
