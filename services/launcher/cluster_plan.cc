// SPDX-License-Identifier: Apache-2.0
#include "services/launcher/cluster_plan.h"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/file.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/families/hf_config.h"
#include "runtime/placement/expert_demand.h"
#include "runtime/placement/plan.h"
#include "runtime/placement/planner.h"
#include "services/common/model_report.h"
#include "services/expert/load_experts.h"

namespace ccoe::services {
namespace {

bool IsFolder(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error);
}

absl::StatusOr<placement::Plan> Placement(const ClusterOptions& options,
                                          const model::ModelSpec& spec, int workers) {
  if (!options.placement_file.empty()) return placement::ReadPlan(options.placement_file);
  placement::PlanOptions plan;
  for (int i = 0; i < workers; ++i) plan.workers.push_back({absl::StrCat("expert-", i), 0});
  plan.copies = options.ffn_copies;
  CCOE_ASSIGN_OR_RETURN(plan.dtype, placement::ExpertDType(spec, options.model.base_folder));
  CCOE_ASSIGN_OR_RETURN(placement::Plan made, placement::MakePlan(spec, plan));
  made.model_fingerprint = ModelIdentity(spec);
  return made;
}

absl::Status CheckWorkers(const ClusterOptions& options, const ExpertPlan& plan) {
  if (options.expert_workers.has_value() && !options.placement_file.empty() &&
      *options.expert_workers != static_cast<int>(plan.workers.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("expert workers: ", options.placement_file, " names ", plan.workers.size(),
                     " workers, expected as many, found ", *options.expert_workers));
  }
  if (plan.workers.empty() && !options.model.bundle_folders.empty()) {
    return absl::InvalidArgumentError("expert workers: layer experts need at least 1, found 0");
  }
  if (options.ffn_copies > 1 && !plan.placement.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("replicas: ", options.ffn_copies,
                     " copies of FFN experts need expert workers that hold them, found none; layer "
                     "experts have copies where there are more expert workers than experts"));
  }
  return absl::OkStatus();
}

// Where a role listens that only this cluster uses.
constexpr char kWithin[] = "127.0.0.1:0";

RouterRole PlanRouter(const ClusterOptions& options, const ExpertPlan& plan) {
  RouterRole role = options.router;
  role.router.rules_file = options.model.rules_file;
  role.router.placement = plan.placement;
  role.router.placement_file = options.placement_file;
  role.router.model_folder = options.model.base_folder;
  role.router.serve.listen = {kWithin};
  role.process.http = kWithin;
  return role;
}

BackboneRole PlanBackbone(const ClusterOptions& options, int number) {
  BackboneRole role = options.backbone;
  role.worker.worker_id = absl::StrCat("backbone-", number);
  role.worker.model_folder = options.model.base_folder;
  role.worker.bundle_folders = options.model.bundle_folders;
  role.worker.serve.listen = {kWithin};
  role.process.http = kWithin;
  return role;
}

ExpertRole PlanExpert(const ClusterOptions& options, const StartedExpertWorker& worker) {
  ExpertRole role = options.expert;
  role.worker.worker_id = worker.id;
  role.worker.base_folder = options.model.base_folder;
  role.worker.bundle_folders = worker.bundles;
  role.worker.serve.listen = {kWithin};
  role.process.http = kWithin;
  return role;
}

}  // namespace

absl::StatusOr<ModelLayout> FindModel(const std::string& folder, const std::string& experts_folder,
                                      const std::string& rules_file) {
  if (!IsFolder(folder)) {
    return absl::NotFoundError(absl::StrCat("model: expected a folder, found none at ", folder));
  }
  ModelLayout layout;
  layout.base_folder = folder;
  layout.rules_file = rules_file;
  std::string experts = experts_folder;
  if (IsFolder(folder + "/base")) {
    layout.base_folder = folder + "/base";
    if (experts.empty() && IsFolder(folder + "/experts")) experts = folder + "/experts";
    if (rules_file.empty() && FileExists(folder + "/routing.textproto")) {
      layout.rules_file = folder + "/routing.textproto";
    }
  }
  if (!FileExists(layout.base_folder + "/config.json")) {
    return absl::NotFoundError(absl::StrCat(
        "model: expected config.json, or a folder base with one, found neither in ", folder));
  }
  if (!layout.rules_file.empty() && !FileExists(layout.rules_file)) {
    return absl::NotFoundError(
        absl::StrCat("rules: expected a file, found none at ", layout.rules_file));
  }
  if (!experts.empty()) {
    CCOE_ASSIGN_OR_RETURN(layout.bundle_folders, FindBundles(experts));
  }
  return layout;
}

std::vector<std::vector<std::string>> AssignBundles(const std::vector<std::string>& bundles,
                                                    int workers) {
  if (bundles.empty() || workers < 1) return {};
  const auto count = static_cast<size_t>(workers);
  std::vector<std::vector<std::string>> held(count);
  for (size_t i = 0; i < std::max(bundles.size(), count); ++i) {
    held[i % count].push_back(bundles[i % bundles.size()]);
  }
  return held;
}

absl::StatusOr<ExpertPlan> PlanExperts(const ClusterOptions& options) {
  const std::vector<std::string>& bundles = options.model.bundle_folders;
  CCOE_ASSIGN_OR_RETURN(const model::ModelSpec spec,
                        model::LoadModelSpec(options.model.base_folder));
  if (!spec.has_moe() && !options.placement_file.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.placement_file, ": a placement is for a model with FFN experts; ",
                     options.model.base_folder, " has none"));
  }
  ExpertPlan plan;
  int workers = options.expert_workers.value_or(bundles.empty() ? 0 : 1);
  if (bundles.empty() && !spec.has_moe()) workers = 0;
  if (spec.has_moe() && (workers > 0 || !options.placement_file.empty())) {
    CCOE_ASSIGN_OR_RETURN(plan.placement, Placement(options, spec, workers));
    for (const placement::WorkerPlan& worker : plan.placement->workers) {
      plan.workers.push_back({worker.worker_id, {}});
    }
  } else {
    for (int i = 0; i < workers; ++i) plan.workers.push_back({absl::StrCat("expert-", i), {}});
  }
  CCOE_RETURN_IF_ERROR(CheckWorkers(options, plan));
  const auto held = AssignBundles(bundles, static_cast<int>(plan.workers.size()));
  for (size_t i = 0; i < held.size(); ++i) plan.workers[i].bundles = held[i];
  return plan;
}

absl::StatusOr<std::vector<RoleOptions>> PlanCluster(const ClusterOptions& options) {
  CCOE_ASSIGN_OR_RETURN(const ExpertPlan plan, PlanExperts(options));
  std::vector<RoleOptions> roles = {PlanRouter(options, plan)};
  for (int i = 0; i < options.backbone_workers; ++i) roles.push_back(PlanBackbone(options, i));
  for (const StartedExpertWorker& worker : plan.workers) {
    roles.push_back(PlanExpert(options, worker));
  }
  GatewayRole gateway = options.gateway;
  gateway.gateway.model_folder = options.model.base_folder;
  roles.push_back(std::move(gateway));
  return roles;
}

}  // namespace ccoe::services
