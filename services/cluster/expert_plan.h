// Which expert workers a fresh cluster has, and what each holds.
#ifndef CCOE_SERVICES_CLUSTER_EXPERT_PLAN_H_
#define CCOE_SERVICES_CLUSTER_EXPERT_PLAN_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/placement/plan.h"
#include "services/cluster/cluster_options.h"

namespace ccoe::services {

struct StartedExpertWorker {
  std::string id;
  std::vector<std::string> bundles;  // may be empty where `placement` names the worker
};

struct ExpertPlan {
  std::vector<StartedExpertWorker> workers;
  // Of the model's FFN experts; nullopt: all are with the backbone workers.
  std::optional<placement::Plan> placement;
};

// Layer experts in turn over the workers (AssignBundles); FFN experts as options.placement_file
// says, else planned evenly in options.ffn_copies copies. The workers of a placement file have the
// ids it names; else they are "expert-0", "expert-1". INVALID_ARGUMENT: a placement file for a
// model without FFN experts or with mistakes, another number of workers than it names, layer
// experts without a worker; RESOURCE_EXHAUSTED from the planner.
absl::StatusOr<ExpertPlan> PlanExperts(const ClusterOptions& options);

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_CLUSTER_EXPERT_PLAN_H_
