#include "services/cli/score.h"

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/safetensors.h"
#include "services/cli/engine_flags.h"
#include "services/cli/progress.h"
#include "services/cli/requests.h"
#include "services/offline/collector.h"
#include "services/offline/offline_engine.h"

namespace ccoe::cli {
namespace {

struct ScoreFlags {
  EngineFlags engine;
  std::string requests;
  std::string output;
  bool hidden = false;
};

std::vector<engine::QueryOptions> ToQueries(const std::vector<Request>& requests,
                                            const ExpertRef& expert, bool hidden) {
  std::vector<engine::QueryOptions> queries;
  for (const Request& request : requests) {
    engine::QueryOptions query;
    query.query_id = request.id;
    query.prompt = request.token_ids;
    query.expert = expert;
    query.sampling.temperature = 0;
    query.sampling.max_tokens = 0;
    query.prompt_logits = true;
    query.prompt_hidden = hidden;
    queries.push_back(std::move(query));
  }
  return queries;
}

model::TensorView View(const std::vector<float>& values, std::vector<int64_t> shape) {
  return {values.data(), kernels::DType::kF32, std::move(shape), values.size() * sizeof(float)};
}

absl::Status WriteScores(const ScoreFlags& flags, const std::vector<Request>& requests,
                         const std::vector<services::Answer>& answers,
                         const model::ModelSpec& spec) {
  std::map<std::string, model::TensorView> tensors;
  for (size_t i = 0; i < requests.size(); ++i) {
    const Request& request = requests[i];
    const int64_t tokens = static_cast<int64_t>(request.token_ids.size());
    tensors[request.id + ".token_ids"] = {request.token_ids.data(),
                                          kernels::DType::kI32,
                                          {tokens},
                                          request.token_ids.size() * sizeof(int32_t)};
    tensors[request.id + ".logits"] = View(answers[i].logits, {tokens, spec.vocab_size});
    if (flags.hidden) {
      tensors[request.id + ".hidden"] =
          View(answers[i].hidden, {spec.layer_count() + 1, tokens, spec.hidden_size});
    }
  }
  return model::WriteSafetensors(flags.output, tensors, {{"written_by", "ccoe score"}});
}

absl::Status Score(const ScoreFlags& flags) {
  CCOE_ASSIGN_OR_RETURN(std::vector<Request> requests, ReadRequests(flags.requests));
  CCOE_RETURN_IF_ERROR(TokenizeRequests(flags.engine.model, requests));
  CCOE_ASSIGN_OR_RETURN(const services::OfflineOptions options, ToOfflineOptions(flags.engine));
  CCOE_ASSIGN_OR_RETURN(const auto offline, services::OfflineEngine::Create(options));
  const ExpertRef expert = offline->experts().empty() ? ExpertRef{} : offline->experts().front();

  Progress progress("score", static_cast<int64_t>(requests.size()));
  const auto answers = services::RunQueries(
      offline->engine(), ToQueries(requests, expert, flags.hidden), 256,
      [&progress](size_t done) { progress.Update(static_cast<int64_t>(done)); });
  for (size_t i = 0; i < requests.size(); ++i) {
    CCOE_RETURN_IF_ERROR(
        Annotate(answers[i].status, absl::StrCat("request \"", requests[i].id, "\"")));
  }
  return WriteScores(flags, requests, answers, offline->spec());
}

}  // namespace

void RegisterScore(CLI::App& app, CommandContext& context) {
  auto flags = std::make_shared<ScoreFlags>();
  CLI::App* command =
      AddCommand(app, context, "score", "Writes the logits of every position of the given prompts.",
                 [flags] { return Score(*flags); });
  AddEngineFlags(command, flags->engine);
  AddFlag(command, "--requests", flags->requests,
          R"(JSON lines: {"id": "...", "token_ids": [...]} or {"id": "...", "text": "..."}.)")
      ->required();
  AddFlag(command, "--output", flags->output,
          "Safetensors file: ID.token_ids (int32), ID.logits (f32, [tokens, vocabulary]).")
      ->required();
  AddSwitch(command, "--hidden", flags->hidden,
            "Also ID.hidden (f32, [layers + 1, tokens, hidden]): the embedding, then each layer's "
            "output.");
}

}  // namespace ccoe::cli
