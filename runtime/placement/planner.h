// SPDX-License-Identifier: Apache-2.0
// Makes a placement: which worker gets which FFN experts.
#ifndef CCOE_RUNTIME_PLACEMENT_PLANNER_H_
#define CCOE_RUNTIME_PLACEMENT_PLANNER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/dtype.h"
#include "runtime/model/model_spec.h"
#include "runtime/placement/expert_demand.h"
#include "runtime/placement/plan.h"

namespace ccoe::placement {

struct PlannedWorker {
  std::string worker_id;
  int64_t memory_budget_bytes = 0;  // for its tensors; 0: no bound
};

struct PlanOptions {
  std::vector<PlannedWorker> workers;  // 1 or more, ids unique
  int copies = 1;                      // of every expert, each on another worker
  // Share of all experts' bytes (one copy) for more copies of the hottest ones, as far as budgets
  // allow.
  double extra_memory = 0;
  ExpertLoads loads;                             // empty: even
  kernels::DType dtype = kernels::DType::kBF16;  // of the experts' matrices
};

// A greedy plan; the same arguments give the same plan. In every layer a worker gets its part of
// the copies (equal parts as far as budgets allow, rounded so that bytes even out over the layers),
// and within that the copies are dealt so that the workers' loads in the layer even out, a copy of
// an expert counting its part of the expert's load. INVALID_ARGUMENT: no workers, more copies than
// workers, loads that do not fit the model, a model without FFN experts. RESOURCE_EXHAUSTED spells
// the sum out that does not fit.
absl::StatusOr<Plan> MakePlan(const model::ModelSpec& spec, const PlanOptions& options);

}  // namespace ccoe::placement

#endif  // CCOE_RUNTIME_PLACEMENT_PLANNER_H_
