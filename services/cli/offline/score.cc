// SPDX-License-Identifier: Apache-2.0
// `ccoe score`: logits (and hidden states) of every prompt position, written as safetensors.
#include <algorithm>
#include <cmath>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/safetensors.h"
#include "services/cli/commands.h"
#include "services/cli/flags.h"
#include "services/cli/output.h"
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
  bool routing = false;
};

// The choices of all rows at one MoE layer, as the output has them.
struct LayerChoices {
  std::string layer;
  std::vector<int32_t> experts;
  std::vector<float> weights;
  int64_t width = 0;
};

std::vector<engine::EngineRequest> ToQueries(const std::vector<Request>& requests,
                                             const ExpertRef& expert, const ScoreFlags& flags) {
  std::vector<engine::EngineRequest> queries;
  for (const Request& request : requests) {
    engine::EngineRequest query;
    query.query_id = request.id;
    query.prompt = request.token_ids;
    query.expert = expert;
    query.sampling.temperature = 0;
    query.sampling.max_tokens = 0;
    query.prompt_logits = true;
    query.prompt_hidden = flags.hidden;
    query.routing = flags.routing;
    queries.push_back(std::move(query));
  }
  return queries;
}

model::TensorView View(const std::vector<float>& values, std::vector<int64_t> shape) {
  return {values.data(), kernels::DType::kF32, std::move(shape), values.size() * sizeof(float)};
}

// Rows that chose fewer experts than others end with -1 and 0.
std::vector<LayerChoices> ChoicesOf(const services::Answer& answer) {
  std::vector<LayerChoices> layers;
  for (const auto& [layer, rows] : answer.routing) {
    LayerChoices& choices = layers.emplace_back();
    choices.layer = absl::StrCat(layer);
    for (const services::RowChoice& row : rows) {
      choices.width = std::max(choices.width, static_cast<int64_t>(row.experts.size()));
    }
    for (const services::RowChoice& row : rows) {
      choices.experts.insert(choices.experts.end(), row.experts.begin(), row.experts.end());
      choices.weights.insert(choices.weights.end(), row.weights.begin(), row.weights.end());
      const size_t missing = static_cast<size_t>(choices.width) - row.experts.size();
      choices.experts.insert(choices.experts.end(), missing, -1);
      choices.weights.insert(choices.weights.end(), missing, 0.0f);
    }
  }
  return layers;
}

// As the engine's sampler is to a token: weights that give NaN or an infinity give no answer.
absl::Status CheckFinite(const std::vector<float>& logits, int64_t vocab_size) {
  const auto found =
      std::find_if(logits.begin(), logits.end(), [](float logit) { return !std::isfinite(logit); });
  if (found == logits.end()) return absl::OkStatus();
  const int64_t at = found - logits.begin();
  return absl::InternalError(absl::StrCat(
      "logits at position ", at / vocab_size,
      ": expected finite numbers, found NaN or an infinity at token id ", at % vocab_size));
}

absl::Status WriteScores(const ScoreFlags& flags, const std::vector<Request>& requests,
                         const std::vector<services::Answer>& answers,
                         const model::ModelSpec& spec) {
  std::map<std::string, model::TensorView> tensors;
  std::list<std::vector<LayerChoices>> choices;  // what the views point into
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
    for (const LayerChoices& layer : choices.emplace_back(ChoicesOf(answers[i]))) {
      tensors[absl::StrCat(request.id, ".router_experts.", layer.layer)] = {
          layer.experts.data(),
          kernels::DType::kI32,
          {tokens, layer.width},
          layer.experts.size() * sizeof(int32_t)};
      tensors[absl::StrCat(request.id, ".router_weights.", layer.layer)] =
          View(layer.weights, {tokens, layer.width});
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
      offline->engine(), ToQueries(requests, expert, flags), 256,
      [&progress](size_t done) { progress.Update(static_cast<int64_t>(done)); });
  for (size_t i = 0; i < requests.size(); ++i) {
    const std::string who = absl::StrCat("request \"", requests[i].id, "\"");
    CCOE_RETURN_IF_ERROR_IN(answers[i].status, who);
    CCOE_RETURN_IF_ERROR_IN(CheckFinite(answers[i].logits, offline->spec().vocab_size), who);
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
      .Required();
  AddFlag(command, "--output", flags->output,
          "Safetensors file: ID.token_ids (int32), ID.logits (f32, [tokens, vocabulary]).")
      .Required();
  AddSwitch(command, "--hidden", flags->hidden,
            "Also ID.hidden (f32, [layers + 1, tokens, hidden]): the embedding, then each layer's "
            "output.");
  AddSwitch(command, "--routing", flags->routing,
            "Also, for each layer L with FFN experts, ID.router_experts.L (int32, [tokens, k], in "
            "rising order) and ID.router_weights.L (f32): the experts each position went through.");
}

}  // namespace ccoe::cli
