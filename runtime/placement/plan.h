// Which worker holds which FFN experts.
#ifndef CCOE_RUNTIME_PLACEMENT_PLAN_H_
#define CCOE_RUNTIME_PLACEMENT_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/model/ffn_shard.h"

namespace ccoe::placement {

struct WorkerPlan {
  std::string worker_id;
  int64_t memory_budget_bytes = 0;  // that its tensors may take; 0: no bound
  model::FfnShard shard;
};

// See PlacementPlan in proto/ccoe/v1/placement.proto. An expert that stands several times has
// replicas.
struct Plan {
  std::string model_fingerprint;  // of the model it was made for; empty: not checked
  std::vector<WorkerPlan> workers;
  model::FfnShard with_backbone;  // what every backbone worker runs itself

  // Null where the plan does not name the worker.
  const WorkerPlan* Find(const std::string& worker_id) const {
    for (const WorkerPlan& worker : workers) {
      if (worker.worker_id == worker_id) return &worker;
    }
    return nullptr;
  }
};

}  // namespace ccoe::placement

#endif  // CCOE_RUNTIME_PLACEMENT_PLAN_H_
