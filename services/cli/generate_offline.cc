#include "services/cli/generate_offline.h"

#include <cstdint>
#include <iostream>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/base/status_macros.h"
#include "runtime/tokenizer/tokenizer.h"
#include "services/cli/command.h"
#include "services/cli/progress.h"
#include "services/cli/requests.h"
#include "services/offline/collector.h"
#include "services/offline/offline_engine.h"

namespace ccoe::cli {
namespace {

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

}  // namespace

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

}  // namespace ccoe::cli
