#include "services/cluster/expert_plan.h"

#include <cstddef>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/families/hf_config.h"
#include "runtime/placement/expert_demand.h"
#include "runtime/placement/plan.h"
#include "runtime/placement/planner.h"
#include "services/cluster/assignment.h"
#include "services/common/model_identity.h"

namespace ccoe::services {
namespace {

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

}  // namespace

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

}  // namespace ccoe::services
