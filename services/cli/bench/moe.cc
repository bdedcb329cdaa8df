// SPDX-License-Identifier: Apache-2.0
// `ccoe bench moe`: what spreading FFN experts costs, and what batching them gains.
#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "runtime/base/parallel.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/families/hf_config.h"
#include "runtime/model/families/random_model.h"
#include "runtime/model/weights.h"
#include "services/cli/bench/model.h"
#include "services/cli/commands.h"
#include "services/cli/output.h"
#include "services/offline/kernel_rates.h"
#include "services/offline/offline_engine.h"
#include "services/offline/throughput.h"

namespace ccoe::cli {
namespace {

constexpr int64_t kPairs[] = {2, 32, 128, 512, 1024};
constexpr int64_t kPromptTokens = 16;

struct BenchMoeFlags {
  BenchModelFlags model;
  int64_t experts = 8;
  int rounds = 5;
  int64_t queries = 16;
  int64_t new_tokens = 32;
  int expert_workers = 1;
  std::string wire = "f32";
  bool json = false;
};

struct GroupedRow {
  int64_t pairs = 0;
  services::FfnRates rates;
};

// Seconds a decoded token of the same queries takes, in steps of half of them: experts with the
// backbone (no swap at all), and on workers over grpc with one step in flight (every swap is waited
// for) and with two (while the rows of one step travel, the other is computed).
struct SwapTimes {
  double here = 0.0, here_wider = 0.0, one = 0.0, two = 0.0;

  // What the swaps add where nothing hides them, and the part of it that a second step hides. With
  // one step in flight backbone and workers take turns: no more threads compute than here.
  double swap() const { return one - here; }
  double hidden() const { return swap() > 0.0 ? (one - two) / swap() : 0.0; }
  // With two steps a worker computes beside the backbone: held against the backbone with that
  // thread for itself.
  double added() const { return two - here_wider; }
};

// The flags' defaults; --intermediate is one expert's width.
void UseMixtralShape(BenchMoeFlags& flags) {
  const model::RandomModelOptions shape = model::MixtralShapedOptions();
  flags.model.hidden = shape.hidden_size;
  flags.model.layers = shape.layers;
  flags.model.heads = shape.heads;
  flags.model.kv_heads = shape.kv_heads;
  flags.model.intermediate = shape.expert_intermediate_size;
  flags.model.vocabulary = shape.vocab_size;
  flags.experts = shape.experts;
}

model::RandomModelOptions ToMoeOptions(const BenchMoeFlags& flags) {
  model::RandomModelOptions options = ToModelOptions(flags.model, /*seed=*/1);
  options.experts = flags.experts;
  options.expert_intermediate_size = flags.model.intermediate;
  return options;
}

absl::StatusOr<std::vector<GroupedRow>> MeasureGrouped(const std::string& model, int rounds,
                                                       const services::ComputeOptions& options,
                                                       ThreadTeam& team) {
  CCOE_ASSIGN_OR_RETURN(const auto compute, services::Compute::Create(options, &team));
  CCOE_ASSIGN_OR_RETURN(const model::ModelSpec spec, model::LoadModelSpec(model));
  CCOE_ASSIGN_OR_RETURN(auto mapped, model::Weights::Open(model));
  const auto weights = model::Weights::On(std::move(mapped), compute->weights());
  CCOE_ASSIGN_OR_RETURN(auto ops, compute->MakeOps());
  CCOE_ASSIGN_OR_RETURN(const auto meter,
                        services::FfnRateMeter::Create(spec, 0, weights, std::move(ops)));
  std::vector<GroupedRow> rows;
  for (const int64_t pairs : kPairs) {
    CCOE_ASSIGN_OR_RETURN(const services::FfnRates rates, meter->Measure(pairs, rounds));
    rows.push_back({pairs, rates});
  }
  return rows;
}

// A core is left to the wire where there is more than one.
int ThreadsOf(const BenchMoeFlags& flags) {
  return flags.model.threads > 0 ? flags.model.threads : std::max(1, AvailableCores() - 1);
}

absl::StatusOr<std::unique_ptr<services::OfflineEngine>> Engine(const BenchMoeFlags& flags,
                                                                const std::string& model,
                                                                int workers, int steps,
                                                                int threads) {
  services::OfflineOptions options;
  options.model_folder = model;
  options.threads = threads;
  options.compute = flags.model.compute;
  options.expert_workers = workers;
  options.exchange = services::ExchangeKind::kGrpc;
  options.engine.max_steps_in_flight = steps;
  options.engine.max_step_tokens = std::max<int64_t>(1, flags.queries / 2);
  options.engine.kv_tokens = flags.queries * 2 * (kPromptTokens + flags.new_tokens);
  options.engine.wire_dtype = flags.wire == "bf16" ? kernels::DType::kBF16 : kernels::DType::kF32;
  return services::OfflineEngine::Create(options);
}

// Seconds a token.
absl::StatusOr<double> Decode(services::OfflineEngine& engine, const BenchMoeFlags& flags) {
  services::LoadShape load;
  load.queries = flags.queries;
  load.prompt_tokens = kPromptTokens;
  load.new_tokens = flags.new_tokens;
  CCOE_ASSIGN_OR_RETURN(const services::Throughput throughput,
                        services::MeasureThroughput(engine.engine(), engine.spec(), load));
  return 1.0 / throughput.decode_tokens_per_second;
}

absl::StatusOr<SwapTimes> MeasureSwaps(const BenchMoeFlags& flags, const std::string& model) {
  const int threads = ThreadsOf(flags), workers = flags.expert_workers;
  CCOE_ASSIGN_OR_RETURN(const auto here, Engine(flags, model, 0, 1, threads));
  CCOE_ASSIGN_OR_RETURN(const auto wider, Engine(flags, model, 0, 1, threads + 1));
  CCOE_ASSIGN_OR_RETURN(const auto one, Engine(flags, model, workers, 1, threads));
  CCOE_ASSIGN_OR_RETURN(const auto two, Engine(flags, model, workers, 2, threads));
  SwapTimes best{1e30, 1e30, 1e30, 1e30};
  Progress progress("bench moe", flags.rounds);
  for (int round = 0; round <= flags.rounds; ++round) {  // in turns; the first pages weights in
    progress.Update(round);
    CCOE_ASSIGN_OR_RETURN(const double here_seconds, Decode(*here, flags));
    CCOE_ASSIGN_OR_RETURN(const double wider_seconds, Decode(*wider, flags));
    CCOE_ASSIGN_OR_RETURN(const double one_seconds, Decode(*one, flags));
    CCOE_ASSIGN_OR_RETURN(const double two_seconds, Decode(*two, flags));
    if (round == 0) continue;
    best = {std::min(best.here, here_seconds), std::min(best.here_wider, wider_seconds),
            std::min(best.one, one_seconds), std::min(best.two, two_seconds)};
  }
  return best;
}

void PrintTable(const std::vector<GroupedRow>& grouped, const SwapTimes& times,
                const model::RandomModelOptions& model, const BenchMoeFlags& flags) {
  std::cout << absl::StrFormat(
      "model    random Mixtral shape, %.2f B parameters, %s, %d layers of %d experts, top %d\n\n",
      model::ParameterCount(model) / 1e9, flags.model.dtype, model.layers, model.experts,
      model.experts_per_token);
  std::cout << "rows (row, expert)   grouped GFLOP/s   one dense block   grouped of dense\n";
  for (const GroupedRow& row : grouped) {
    std::cout << absl::StrFormat("%18d   %15.1f   %15.1f   %14.0f %%\n", row.pairs,
                                 row.rates.grouped / 1e9, row.rates.dense / 1e9,
                                 100 * row.rates.grouped / row.rates.dense);
  }
  std::cout << absl::StrFormat(
      "\ndecode of %d queries in steps of %d, %s rows, %d expert worker%s over grpc on loopback\n",
      flags.queries, std::max<int64_t>(1, flags.queries / 2), flags.wire, flags.expert_workers,
      flags.expert_workers == 1 ? "" : "s");
  const int threads = ThreadsOf(flags);
  const auto line = [&](const char* what, int computing, double seconds) {
    std::cout << absl::StrFormat("%-34s %2d thread%s %8.2f ms a token   %8.1f tokens/s\n", what,
                                 computing, computing == 1 ? " " : "s", 1e3 * seconds,
                                 1.0 / seconds);
  };
  line("experts with the backbone", threads, times.here);
  line("on workers, one step in flight", threads, times.one);
  line("experts with the backbone", threads + 1, times.here_wider);
  line("on workers, two steps in flight", threads + 1, times.two);
  std::cout << absl::StrFormat(
      "swaps add %.2f ms a token; a second step in flight hides %.0f %% of it, as a worker then "
      "computes beside the backbone; against the backbone on as many threads it adds %.2f ms\n",
      1e3 * times.swap(), 100 * times.hidden(), 1e3 * times.added());
}

nlohmann::json ToJson(const std::vector<GroupedRow>& grouped, const SwapTimes& times,
                      const BenchMoeFlags& flags) {
  nlohmann::json json;
  for (const GroupedRow& row : grouped) {
    json["grouped_ffn"].push_back({{"rows", row.pairs},
                                   {"grouped_flops_per_second", row.rates.grouped},
                                   {"dense_flops_per_second", row.rates.dense},
                                   {"of_dense", row.rates.grouped / row.rates.dense}});
  }
  json["threads"] = ThreadsOf(flags);
  json["with_backbone_seconds_per_token"] = times.here;
  json["with_backbone_one_more_thread_seconds_per_token"] = times.here_wider;
  json["one_step_in_flight_seconds_per_token"] = times.one;
  json["two_steps_in_flight_seconds_per_token"] = times.two;
  json["swap_seconds_per_token"] = times.swap();
  json["hidden"] = times.hidden();
  json["two_steps_added_seconds_per_token"] = times.added();
  return json;
}

absl::Status BenchMoe(const BenchMoeFlags& flags) {
  CCOE_ASSIGN_OR_RETURN(const auto folder, BenchFolder::Create(flags.model));
  ThreadTeam team(flags.model.threads);
  const std::string path = folder->Path("model");
  const model::RandomModelOptions model = ToMoeOptions(flags);
  CCOE_RETURN_IF_ERROR(model::WriteRandomModel(model, path, team));
  CCOE_ASSIGN_OR_RETURN(const auto grouped,
                        MeasureGrouped(path, flags.rounds, flags.model.compute, team));
  CCOE_ASSIGN_OR_RETURN(const SwapTimes times, MeasureSwaps(flags, path));
  if (flags.json) {
    std::cout << ToJson(grouped, times, flags).dump() << "\n";
  } else {
    PrintTable(grouped, times, model, flags);
  }
  return absl::OkStatus();
}

}  // namespace

void RegisterBenchMoe(CLI::App& bench, CommandContext& context) {
  auto flags = std::make_shared<BenchMoeFlags>();
  CLI::App* command = AddCommand(
      bench, context, "moe",
      "Measures grouped FFN experts against one dense block, and how much of the swaps' time a "
      "second step in flight hides, on a random Mixtral-shaped model.",
      [flags] { return BenchMoe(*flags); });
  UseMixtralShape(*flags);
  AddBenchModelFlags(command, flags->model);
  AddFlag(command, "--experts", flags->experts, "FFN experts a layer.");
  AddFlag(command, "--rounds", flags->rounds, "Rounds; the best of each counts.").Range(1, 100);
  AddFlag(command, "--queries", flags->queries, "Queries that decode at once.")
      .Range(int64_t{2}, int64_t{256});
  AddFlag(command, "--new-tokens", flags->new_tokens, "Tokens each query decodes.")
      .Range(int64_t{2}, int64_t{1024});
  AddFlag(command, "--expert-workers", flags->expert_workers, "Expert workers.").Range(1, 64);
  AddFlag(command, "--wire", flags->wire, "Type of the rows between backbone and workers.")
      .OneOf({"f32", "bf16"});
  AddSwitch(command, "--json", flags->json, "Print JSON.");
}

}  // namespace ccoe::cli
