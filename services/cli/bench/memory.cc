// SPDX-License-Identifier: Apache-2.0
// `ccoe bench memory`: the memory of one backbone with experts against that of full models.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "runtime/base/parallel.h"
#include "runtime/base/status_macros.h"
#include "runtime/experts/extract.h"
#include "services/cli/bench/model.h"
#include "services/cli/commands.h"
#include "services/cli/output.h"
#include "services/offline/offline_engine.h"
#include "services/offline/throughput.h"

namespace ccoe::cli {
namespace {

constexpr int kDomains = 5;

struct MemoryFlags {
  BenchModelFlags model;
  int64_t expert_layers = 4;
  int64_t sequences = 16;
  int64_t prompt_tokens = 256;
  int64_t new_tokens = 16;
  bool json = false;
};

absl::StatusOr<int64_t> ResidentBytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  int64_t kilobytes = 0;
  while (status >> word) {
    if (word == "VmRSS:" && status >> kilobytes) return kilobytes * 1024;
  }
  return absl::UnavailableError("/proc/self/status: no VmRSS");
}

// Runs `work` in a child process and returns the child's answer: each configuration starts from an
// empty process. To be called while this process has one thread.
absl::StatusOr<int64_t> InChild(const std::function<absl::StatusOr<int64_t>()>& work) {
  int ends[2];
  if (pipe(ends) != 0) return absl::UnavailableError("pipe failed");
  const pid_t child = fork();
  if (child < 0) return absl::UnavailableError("fork failed");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // who would read the answer?
    close(ends[0]);
    const absl::StatusOr<int64_t> result = work();
    const std::string text =
        result.ok() ? absl::StrCat(*result) : absl::StrCat("error: ", result.status().message());
    const ssize_t written = write(ends[1], text.data(), text.size());
    _exit(written == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  close(ends[1]);
  std::string text(4096, '\0');
  const ssize_t size = read(ends[0], text.data(), text.size());
  close(ends[0]);
  int exit_status = 0;
  waitpid(child, &exit_status, 0);
  int64_t value = 0;
  text.resize(size > 0 ? static_cast<size_t>(size) : 0);
  if (!absl::SimpleAtoi(text, &value))
    return absl::InternalError(absl::StrCat("measuring process: ", text));
  return value;
}

// Where the benchmark's models lie.
struct Models {
  std::string base;
  std::vector<std::string> full;     // one a domain
  std::vector<std::string> bundles;  // their top layers
};

absl::StatusOr<Models> MakeModels(const MemoryFlags& flags, const BenchFolder& folder) {
  Models models;
  models.base = folder.Path("base");
  ThreadTeam team(flags.model.threads);
  Progress progress("making models", 1 + 2 * kDomains);
  CCOE_RETURN_IF_ERROR(
      model::WriteRandomModel(ToModelOptions(flags.model, /*seed=*/1), models.base, team));
  for (int d = 0; d < kDomains; ++d) {
    progress.Update(1 + 2 * d);
    models.full.push_back(folder.Path(absl::StrCat("full-", d)));
    CCOE_RETURN_IF_ERROR(model::WriteRandomModel(
        ToModelOptions(flags.model, static_cast<uint64_t>(d) + 2), models.full.back(), team));
    progress.Update(2 + 2 * d);
    experts::ExtractOptions extract;
    extract.base_folder = models.base;
    extract.tuned_folder = models.full.back();
    extract.layers = {static_cast<int32_t>(flags.model.layers - flags.expert_layers),
                      static_cast<int32_t>(flags.model.layers)};
    extract.name = absl::StrCat("domain-", d);
    extract.output_folder = folder.Path(extract.name);
    CCOE_RETURN_IF_ERROR(experts::ExtractExpert(extract).status());
    models.bundles.push_back(extract.output_folder);
  }
  return models;
}

services::OfflineOptions EngineFor(const MemoryFlags& flags, const std::string& model) {
  services::OfflineOptions options;
  options.model_folder = model;
  options.threads = flags.model.threads;
  return options;
}

services::LoadShape Load(const MemoryFlags& flags) {
  services::LoadShape load;
  load.queries = flags.sequences;
  load.prompt_tokens = flags.prompt_tokens;
  load.new_tokens = flags.new_tokens;
  return load;
}

// Five full models in one process, the sequences dealt out over them.
absl::StatusOr<int64_t> FullModels(const MemoryFlags& flags, const Models& models) {
  std::vector<std::unique_ptr<services::OfflineEngine>> engines;
  for (int d = 0; d < kDomains; ++d) {
    CCOE_ASSIGN_OR_RETURN(auto engine,
                          services::OfflineEngine::Create(EngineFor(flags, models.full[d])));
    services::LoadShape load = Load(flags);
    load.queries = flags.sequences / kDomains + (d < flags.sequences % kDomains ? 1 : 0);
    if (load.queries > 0)
      CCOE_RETURN_IF_ERROR(
          services::MeasureThroughput(engine->engine(), engine->spec(), load).status());
    engines.push_back(std::move(engine));
  }
  return ResidentBytes();
}

// One backbone with the five experts. `base_top`: the base's own top layers are held, and answer
// one of the sequences.
absl::StatusOr<int64_t> Backbone(const MemoryFlags& flags, const Models& models, bool base_top) {
  services::OfflineOptions options = EngineFor(flags, models.base);
  options.expert_folders = models.bundles;
  if (!base_top)
    options.backbone_layers = static_cast<int32_t>(flags.model.layers - flags.expert_layers);
  CCOE_ASSIGN_OR_RETURN(const auto engine, services::OfflineEngine::Create(options));
  services::LoadShape load = Load(flags);
  load.experts = engine->experts();
  if (base_top) load.experts.push_back({});
  CCOE_RETURN_IF_ERROR(
      services::MeasureThroughput(engine->engine(), engine->spec(), load).status());
  return ResidentBytes();
}

// Resident bytes.
struct Measured {
  int64_t full_models = 0;
  int64_t with_top = 0;
  int64_t without_top = 0;
};

absl::StatusOr<Measured> Measure(const MemoryFlags& flags, const Models& models) {
  Measured measured;
  StatusLine line;
  line.Show("measuring five full models");
  CCOE_ASSIGN_OR_RETURN(measured.full_models, InChild([&] { return FullModels(flags, models); }));
  line.Show("measuring one backbone with five experts");
  CCOE_ASSIGN_OR_RETURN(measured.with_top, InChild([&] { return Backbone(flags, models, true); }));
  line.Show("measuring the same without the base's own top layers");
  CCOE_ASSIGN_OR_RETURN(measured.without_top,
                        InChild([&] { return Backbone(flags, models, false); }));
  return measured;
}

absl::Status BenchMemory(const MemoryFlags& flags) {
  if (flags.expert_layers < 1 || flags.expert_layers >= flags.model.layers) {
    return UsageError(absl::StrCat("--expert-layers: expected 1 to ", flags.model.layers - 1,
                                   ", found ", flags.expert_layers));
  }
  CCOE_ASSIGN_OR_RETURN(const auto folder, BenchFolder::Create(flags.model));
  CCOE_ASSIGN_OR_RETURN(const Models models, MakeModels(flags, *folder));
  CCOE_ASSIGN_OR_RETURN(const Measured measured, Measure(flags, models));
  const auto [full, with_top, without_top] = measured;
  if (flags.json) {
    std::cout << nlohmann::json{{"full_models_bytes", full},
                                {"backbone_with_experts_bytes", with_top},
                                {"without_base_top_bytes", without_top},
                                {"ratio",
                                 static_cast<double>(with_top) / static_cast<double>(full)},
                                {"ratio_without_base_top",
                                 static_cast<double>(without_top) / static_cast<double>(full)}}
                     .dump()
              << "\n";
    return absl::OkStatus();
  }
  const auto row = [full](const char* what, int64_t bytes) {
    std::cout << absl::StrFormat("%-42s %8.0f MB  %5.1f %%\n", what,
                                 static_cast<double>(bytes) / 1e6,
                                 100.0 * static_cast<double>(bytes) / static_cast<double>(full));
  };
  std::cout << absl::StrFormat(
      "Resident memory: weights, and KV of %d sequences of %d tokens; experts of %d of %d "
      "layers.\n",
      flags.sequences, flags.prompt_tokens + flags.new_tokens, flags.expert_layers,
      flags.model.layers);
  row("five full models", full);
  row("one backbone, five experts", with_top);
  row("the same without the base's own top layers", without_top);
  return absl::OkStatus();
}

}  // namespace

void RegisterBenchMemory(CLI::App& bench, CommandContext& context) {
  auto flags = std::make_shared<MemoryFlags>();
  CLI::App* command =
      AddCommand(bench, context, "memory",
                 "Compares the memory of one backbone with five experts with five full models.",
                 [flags] { return BenchMemory(*flags); });
  AddBenchModelFlags(command, flags->model);
  AddFlag(command, "--expert-layers", flags->expert_layers, "Layers of an expert.");
  AddFlag(command, "--sequences", flags->sequences, "Sequences that hold KV, over all models.")
      .Range(1, 4096);
  AddFlag(command, "--prompt-tokens", flags->prompt_tokens, "Prompt of each.").Range(1, 65536);
  AddFlag(command, "--new-tokens", flags->new_tokens, "Tokens each decodes.").Range(2, 1024);
  AddSwitch(command, "--json", flags->json, "Print JSON.");
}

}  // namespace ccoe::cli
