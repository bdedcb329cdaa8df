// SPDX-License-Identifier: Apache-2.0
#include "services/cli/offline/experts.h"

#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"
#include "runtime/base/status_macros.h"
#include "runtime/experts/extract.h"
#include "services/cli/commands.h"

namespace ccoe::cli {
namespace {

struct ExtractFlags {
  experts::ExtractOptions options;
  std::string layers;
  std::vector<std::string> training;
  bool json = false;
};

nlohmann::json ToJson(const experts::ExtractReport& report) {
  nlohmann::json drift = nlohmann::json::array();
  for (const experts::Drift& part : report.drift) {
    drift.push_back({{"part", part.part},
                     {"relative", part.relative},
                     {"max_abs", part.max_abs},
                     {"in_bundle", part.in_bundle}});
  }
  return {{"expert", report.manifest.expert.ToString()},
          {"layers", {report.manifest.layers.first, report.manifest.layers.last}},
          {"bundle_bytes", report.bundle_bytes},
          {"base_fingerprint", report.manifest.base_fingerprint},
          {"weights_sha256", report.manifest.weights_sha256},
          {"drift", drift}};
}

void PrintReport(const experts::ExtractReport& report, const std::string& folder) {
  std::cout << absl::StrFormat("%s: layers %d:%d, %.2f MB in %s\n",
                               report.manifest.expert.ToString(), report.manifest.layers.first,
                               report.manifest.layers.last, report.bundle_bytes / 1e6, folder);
  std::cout << "part           in bundle  relative drift  largest change\n";
  bool lost = false;
  for (const experts::Drift& part : report.drift) {
    std::cout << absl::StrFormat("%-14s %-9s  %14.2e  %14.2e\n", part.part,
                                 part.in_bundle ? "yes" : "no", part.relative, part.max_abs);
    lost = lost || (!part.in_bundle && part.max_abs > 0);
  }
  if (lost)
    std::cout << "Parts that changed and are not in the bundle are served from the base: evaluate "
                 "the expert before use.\n";
}

absl::Status Extract(ExtractFlags& flags) {
  CCOE_ASSIGN_OR_RETURN(flags.options.layers, ParseLayers(flags.layers));
  for (const std::string& fact : flags.training) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(fact, absl::MaxSplits('=', 1));
    if (parts.first.empty() || fact.find('=') == std::string::npos) {
      return UsageError(absl::StrCat("--training: expected KEY=VALUE, found \"", fact, "\""));
    }
    flags.options.training[parts.first] = parts.second;
  }
  CCOE_ASSIGN_OR_RETURN(const experts::ExtractReport report, experts::ExtractExpert(flags.options));
  if (flags.json) {
    std::cout << ToJson(report).dump() << "\n";
  } else {
    PrintReport(report, flags.options.output_folder);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<model::LayerRange> ParseLayers(absl::string_view text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  model::LayerRange range;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &range.first) ||
      !absl::SimpleAtoi(parts[1], &range.last) || range.first < 0 || range.empty()) {
    return UsageError(absl::StrCat(
        "layers: expected FIRST:LAST (layers FIRST to LAST - 1), found \"", text, "\""));
  }
  return range;
}

void RegisterExperts(CLI::App& app, CommandContext& context) {
  CLI::App* group = AddCommandGroup(app, "experts", "Works on expert bundles.");
  auto flags = std::make_shared<ExtractFlags>();
  experts::ExtractOptions& options = flags->options;
  CLI::App* command = AddCommand(*group, context, "extract",
                                 "Cuts an expert bundle out of a full fine-tuned checkpoint.",
                                 [flags] { return Extract(*flags); });
  AddFlag(command, "--base", options.base_folder, "Folder of the base model.").Required();
  AddFlag(command, "--tuned", options.tuned_folder, "Folder of the fine-tuned checkpoint.")
      .Required();
  AddFlag(command, "--layers", flags->layers,
          "FIRST:LAST, the layers FIRST to LAST - 1 that become the expert.")
      .Required();
  AddFlag(command, "--name", options.name, "The expert's name.").Required();
  AddFlag(command, "--output", options.output_folder, "Folder of the bundle; made.").Required();
  AddFlag(command, "--version-number", options.version, "The expert's version, 1 or more.");
  AddFlag(command, "--domain", options.domain, "What it is an expert in; default: its name.");
  AddFlag(command, "--description", options.description, "One sentence for people.");
  AddFlag(command, "--example", options.example_queries,
          "A query it is meant for; may be repeated.")
      .OneValueEach();
  AddFlag(command, "--training", flags->training,
          "A fact of its training as KEY=VALUE; may be repeated.")
      .OneValueEach();
  AddSwitch(command, "--own-norm", options.own_norm, "Take the tuned final norm along.");
  AddSwitch(command, "--own-head", options.own_head, "Take the tuned LM head along.");
  AddSwitch(command, "--json", flags->json, "Print the report as JSON.");
}

}  // namespace ccoe::cli
