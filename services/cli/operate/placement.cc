// SPDX-License-Identifier: Apache-2.0
// `ccoe placement`: plans, shows and checks which worker holds which FFN experts.
#include <unistd.h>

#include <cstdint>
#include <iostream>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"
#include "runtime/base/file.h"
#include "runtime/base/parallel.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/families/hf_config.h"
#include "runtime/placement/cost_model.h"
#include "runtime/placement/expert_demand.h"
#include "runtime/placement/plan.h"
#include "runtime/placement/planner.h"
#include "services/cli/commands.h"
#include "services/cli/flags.h"
#include "services/cli/operate/placement_report.h"
#include "services/common/model_report.h"

namespace ccoe::cli {
namespace {

struct PlanFlags {
  std::string model;
  int workers = 0;
  std::string budget;
  std::string replicas = "1";
  std::string from_stats;
  bool measure = true;
  bool same_machine = false;
  int64_t rows = 32;
  double round_trip_us = 0;
  double link_gbit = 0;
  std::string wire = "f32";
  int threads = 0;
  std::string output;
  bool json = false;
};

struct ReadFlags {
  std::string file;
  std::string model;
  std::string from_stats;
  std::string workers;
  bool json = false;
};

struct MoeModel {
  model::ModelSpec spec;
  kernels::DType dtype = kernels::DType::kF32;
};

absl::StatusOr<MoeModel> LoadMoe(const std::string& folder) {
  MoeModel moe;
  CCOE_ASSIGN_OR_RETURN(moe.spec, model::LoadModelSpec(folder));
  if (!moe.spec.has_moe()) {
    return absl::InvalidArgumentError(
        absl::StrCat(folder, ": expected a model with FFN experts, found a dense one"));
  }
  CCOE_ASSIGN_OR_RETURN(moe.dtype, placement::ExpertDType(moe.spec, folder));
  return moe;
}

absl::StatusOr<placement::ExpertLoads> Loads(const std::string& file,
                                             const model::ModelSpec& spec) {
  if (file.empty()) return placement::ExpertLoads();
  CCOE_ASSIGN_OR_RETURN(placement::ExpertLoads loads, placement::ReadLoads(file));
  CCOE_RETURN_IF_ERROR_IN(placement::CheckLoads(loads, spec), file);
  return loads;
}

// "2": copies of every expert; "25%": extra memory for more copies of the hottest.
absl::Status ReadReplicas(const std::string& text, placement::PlanOptions& options) {
  int copies = 0;
  double share = 0;
  if (absl::SimpleAtoi(text, &copies)) {
    options.copies = copies;
    return absl::OkStatus();
  }
  if (!text.empty() && text.back() == '%' &&
      absl::SimpleAtod(absl::string_view(text).substr(0, text.size() - 1), &share) && share >= 0) {
    options.extra_memory = share / 100;
    return absl::OkStatus();
  }
  return UsageError(
      absl::StrCat("--replicas: expected a number of copies or a share of extra "
                   "memory such as 25%, found \"",
                   text, "\""));
}

// One budget for all workers, or one for each.
absl::Status AddWorkers(const PlanFlags& flags, placement::PlanOptions& options) {
  std::vector<int64_t> budgets;
  if (!flags.budget.empty()) {
    for (const absl::string_view text : absl::StrSplit(flags.budget, ',')) {
      const auto budget = ParseByteSize(absl::StripAsciiWhitespace(text));
      if (!budget.ok()) return UsageError(absl::StrCat("--budget: ", budget.status().message()));
      budgets.push_back(*budget);
    }
  }
  if (budgets.size() > 1 && static_cast<int>(budgets.size()) != flags.workers) {
    return UsageError(absl::StrCat("--budget: expected one for all or one for each of the ",
                                   flags.workers, " workers, found ", budgets.size()));
  }
  for (int i = 0; i < flags.workers; ++i) {
    const auto index = static_cast<size_t>(i);
    const int64_t budget = budgets.empty() ? 0 : budgets.size() == 1 ? budgets[0] : budgets[index];
    options.workers.push_back({absl::StrCat("expert-", i), budget});
  }
  return absl::OkStatus();
}

absl::StatusOr<placement::Plan> Make(const PlanFlags& flags, const MoeModel& moe,
                                     const placement::ExpertLoads& loads) {
  placement::PlanOptions options;
  options.dtype = moe.dtype;
  options.loads = loads;
  CCOE_RETURN_IF_ERROR(ReadReplicas(flags.replicas, options));
  CCOE_RETURN_IF_ERROR(AddWorkers(flags, options));
  placement::Plan plan;
  if (flags.workers == 0) {
    plan.with_backbone = model::FfnShard::All(moe.spec);
  } else {
    CCOE_ASSIGN_OR_RETURN(plan, placement::MakePlan(moe.spec, options));
  }
  plan.model_fingerprint = services::ModelIdentity(moe.spec);
  return plan;
}

struct Advice {
  placement::Costs costs;
  placement::CostAnswer answer;
};

absl::StatusOr<Advice> Measure(const PlanFlags& flags, const MoeModel& moe) {
  const kernels::DType wire = flags.wire == "bf16" ? kernels::DType::kBF16 : kernels::DType::kF32;
  ThreadTeam team(flags.threads);
  Advice advice;
  CCOE_ASSIGN_OR_RETURN(advice.costs, MeasureCosts(moe.spec, moe.dtype, wire, &team));
  if (flags.round_trip_us > 0) advice.costs.round_trip_seconds = flags.round_trip_us * 1e-6;
  if (flags.link_gbit > 0) advice.costs.bytes_per_second = flags.link_gbit * 1e9 / 8;
  placement::CostQuestion question;
  question.workers = flags.workers;
  question.rows = flags.rows;
  question.shared_machine = flags.same_machine;
  question.wire_dtype = wire;
  question.expert_bytes =
      placement::SizeOf(moe.spec, model::FfnShard::All(moe.spec), moe.dtype).bytes();
  question.memory_bytes = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  advice.answer = placement::CompareCosts(moe.spec, advice.costs, question);
  return advice;
}

nlohmann::json ToJson(const Advice& advice) {
  return {{"with_backbone", advice.answer.with_backbone},
          {"reason", advice.answer.reason},
          {"here_seconds", advice.answer.here_seconds},
          {"workers_seconds", advice.answer.workers_seconds},
          {"expert_seconds_1", advice.costs.expert_seconds_1},
          {"expert_seconds_128", advice.costs.expert_seconds_128},
          {"round_trip_seconds", advice.costs.round_trip_seconds},
          {"bytes_per_second", advice.costs.bytes_per_second}};
}

// The text of the file: the plan under a comment that says where it comes from.
std::string FileText(const PlanFlags& flags, const placement::Plan& plan,
                     const std::string& faster) {
  std::string text =
      absl::StrCat("# FFN experts over ", flags.workers, " workers, replicas: ", flags.replicas,
                   flags.budget.empty() ? "" : ", budget: ", flags.budget, "\n");
  if (!faster.empty()) absl::StrAppend(&text, "# ", faster, "\n");
  return absl::StrCat(text, placement::PlanText(plan));
}

absl::Status RunPlan(const PlanFlags& flags) {
  CCOE_ASSIGN_OR_RETURN(const MoeModel moe, LoadMoe(flags.model));
  CCOE_ASSIGN_OR_RETURN(const placement::ExpertLoads loads, Loads(flags.from_stats, moe.spec));
  CCOE_ASSIGN_OR_RETURN(const placement::Plan plan, Make(flags, moe, loads));
  std::optional<Advice> advice;
  if (flags.measure && flags.workers > 0) {
    CCOE_ASSIGN_OR_RETURN(advice, Measure(flags, moe));
  }
  const std::string faster = advice.has_value() ? "faster " + advice->answer.reason : "";
  const std::string text = FileText(flags, plan, faster);
  if (!flags.output.empty()) CCOE_RETURN_IF_ERROR(WriteFileAtomically(flags.output, {text}));
  const PlacementView view{plan, moe.spec, moe.dtype, loads};
  if (flags.json) {
    nlohmann::json json = {{"plan", PlacementJson(view)}};
    if (advice.has_value()) json["faster"] = ToJson(*advice);
    std::cout << json.dump() << "\n";
  } else if (flags.output.empty()) {
    std::cout << text;
    if (!faster.empty()) std::cerr << faster << "\n";
  } else {
    std::cout << PlacementTable(view);
    if (!faster.empty()) std::cout << "\n" << faster << "\n";
  }
  return absl::OkStatus();
}

absl::Status RunShow(const ReadFlags& flags) {
  CCOE_ASSIGN_OR_RETURN(const placement::Plan plan, placement::ReadPlan(flags.file));
  CCOE_ASSIGN_OR_RETURN(const MoeModel moe, LoadMoe(flags.model));
  CCOE_ASSIGN_OR_RETURN(const placement::ExpertLoads loads, Loads(flags.from_stats, moe.spec));
  CCOE_RETURN_IF_ERROR_IN(plan.with_backbone.CheckWithin(moe.spec), flags.file);
  for (const placement::WorkerPlan& worker : plan.workers) {
    CCOE_RETURN_IF_ERROR_IN(worker.shard.CheckWithin(moe.spec),
                            absl::StrCat(flags.file, ": worker \"", worker.worker_id, "\""));
  }
  const PlacementView view{plan, moe.spec, moe.dtype, loads};
  if (flags.json) {
    std::cout << PlacementJson(view).dump() << "\n";
  } else {
    std::cout << PlacementTable(view);
  }
  return absl::OkStatus();
}

// The plan names these workers and no others.
absl::Status CheckNames(const placement::Plan& plan, const std::string& names) {
  std::set<std::string> missing;
  for (const absl::string_view name : absl::StrSplit(names, ',')) {
    missing.insert(std::string(absl::StripAsciiWhitespace(name)));
  }
  std::vector<std::string> unknown;
  for (const placement::WorkerPlan& worker : plan.workers) {
    if (missing.erase(worker.worker_id) == 0) unknown.push_back(worker.worker_id);
  }
  std::vector<std::string> mistakes;
  if (!unknown.empty()) {
    mistakes.push_back(
        absl::StrCat("names workers that will not run: ", absl::StrJoin(unknown, ", ")));
  }
  if (!missing.empty()) {
    mistakes.push_back(absl::StrCat("does not name these workers: ", absl::StrJoin(missing, ", ")));
  }
  if (mistakes.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrJoin(mistakes, "\n"));
}

absl::Status CheckFile(const ReadFlags& flags) {
  CCOE_ASSIGN_OR_RETURN(const placement::Plan plan, placement::ReadPlan(flags.file));
  CCOE_ASSIGN_OR_RETURN(const MoeModel moe, LoadMoe(flags.model));
  const std::string identity = services::ModelIdentity(moe.spec);
  if (!plan.model_fingerprint.empty() && plan.model_fingerprint != identity) {
    return absl::InvalidArgumentError(
        absl::StrCat(flags.file, ": model_fingerprint: expected that of ", flags.model, ", ",
                     identity, ", found ", plan.model_fingerprint));
  }
  CCOE_RETURN_IF_ERROR_IN(placement::CheckPlan(plan, moe.spec, moe.dtype), flags.file);
  if (flags.workers.empty()) return absl::OkStatus();
  return Annotate(CheckNames(plan, flags.workers), flags.file);
}

absl::Status RunCheck(const ReadFlags& flags) {
  const absl::Status status = CheckFile(flags);
  if (flags.json) {
    std::vector<std::string> errors;
    if (!status.ok()) errors = absl::StrSplit(status.message(), '\n');
    std::cout << nlohmann::json{{"ok", status.ok()}, {"errors", errors}}.dump() << "\n";
  } else if (status.ok()) {
    std::cout << flags.file << ": every FFN expert of " << flags.model
              << " is placed, no budget is exceeded\n";
  }
  return status;
}

void RegisterPlan(CLI::App& group, CommandContext& context) {
  auto flags = std::make_shared<PlanFlags>();
  CLI::App* command =
      AddCommand(group, context, "plan", "Makes a placement, and says whether workers are faster.",
                 [flags] { return RunPlan(*flags); });
  AddFlag(command, "--model", flags->model, "Folder of a model with FFN experts.").Required();
  AddFlag(command, "--workers", flags->workers,
          "Expert workers, expert-0, expert-1, ...; 0: all experts with the backbone.")
      .Required()
      .Range(0, 4096);
  AddFlag(
      command, "--budget", flags->budget,
      "Memory of a worker for experts, such as 12GiB; or one for each, with commas. Default: no "
      "bound.");
  AddFlag(command, "--replicas", flags->replicas,
          "Copies of every expert (2), or extra memory for copies of the hottest (25%).");
  AddFlag(command, "--from-stats", flags->from_stats,
          "Loads of the experts, from ccoe moe stats --json. Default: even.");
  AddSwitch(command, "--measure", flags->measure,
            "Measure on this machine whether workers are faster; --measure=false: not.");
  AddSwitch(command, "--same-machine", flags->same_machine,
            "The workers share the backbone's cores.");
  AddFlag(command, "--rows", flags->rows, "Rows of the step that is compared.").Range(1, 65536);
  AddFlag(command, "--round-trip-us", flags->round_trip_us,
          "Round trip of the real network in microseconds; 0: as measured on loopback.")
      .NonNegative();
  AddFlag(command, "--link-gbit", flags->link_gbit,
          "Speed of the real network in Gbit/s; 0: as measured on loopback.")
      .NonNegative();
  AddFlag(command, "--wire", flags->wire, "Type of the rows on the wire.").OneOf({"f32", "bf16"});
  AddFlag(command, "--threads", flags->threads, "Threads that compute; 0: all cores.")
      .Range(0, 1024);
  AddFlag(command, "--output", flags->output, "File to write. Default: standard output.");
  AddSwitch(command, "--json", flags->json, "Print JSON.");
  const std::vector<std::string> measuring = {"--same-machine", "--rows", "--round-trip-us",
                                              "--link-gbit",    "--wire", "--threads"};
  AddNoEffect(
      command, context, [flags] { return !flags->measure; }, "with --measure=false", measuring);
  AddNoEffect(
      command, context, [flags] { return flags->workers == 0; }, "with --workers 0", measuring);
  AddNoEffect(command, context, [flags] { return flags->workers == 0; }, "with --workers 0",
              {"--budget", "--replicas"});
}

CLI::App* RegisterReader(CLI::App& group, CommandContext& context, const std::string& name,
                         const std::string& description, const std::shared_ptr<ReadFlags>& flags,
                         CommandFunction run) {
  CLI::App* command = AddCommand(group, context, name, description, std::move(run));
  AddPositional(command, "file", flags->file, "The placement file.").Required();
  AddFlag(command, "--model", flags->model, "Folder of the model; its config.json is enough.")
      .Required();
  AddSwitch(command, "--json", flags->json, "Print JSON.");
  return command;
}

}  // namespace

void RegisterPlacement(CLI::App& app, CommandContext& context) {
  CLI::App* group = AddCommandGroup(
      app, "placement", "Plans, shows and checks which worker holds which FFN experts.");
  RegisterPlan(*group, context);
  auto show = std::make_shared<ReadFlags>();
  CLI::App* shown =
      RegisterReader(*group, context, "show", "Prints who holds what, its bytes and load.", show,
                     [show] { return RunShow(*show); });
  AddFlag(shown, "--from-stats", show->from_stats,
          "Loads of the experts, from ccoe moe stats --json. Default: even.");
  auto check = std::make_shared<ReadFlags>();
  CLI::App* checked =
      RegisterReader(*group, context, "check",
                     "Says what is wrong with a placement; exit code 1 where something is.", check,
                     [check] { return RunCheck(*check); });
  AddFlag(checked, "--workers", check->workers,
          "The workers that will run, with commas: the placement must name these and no others.");
}

}  // namespace ccoe::cli
