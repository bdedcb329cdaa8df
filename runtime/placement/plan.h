// SPDX-License-Identifier: Apache-2.0
// Which worker holds which FFN experts: the placement as a value, its text form (every mistake in
// it named with its line) and its form on the wire, and whether it suits a model.
#ifndef CCOE_RUNTIME_PLACEMENT_PLAN_H_
#define CCOE_RUNTIME_PLACEMENT_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/dtype.h"
#include "runtime/model/ffn_shard.h"
#include "runtime/model/model_spec.h"

namespace ccoe::v1 {
class PlacementPlan;
}  // namespace ccoe::v1

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

// Bounds on what a placement may hold.
inline constexpr int64_t kMaxPlanFileBytes = 16 << 20;
inline constexpr int kMaxPlannedWorkers = 4096;
inline constexpr int32_t kHighestLayer = 4095;
inline constexpr int32_t kHighestExpert = 65535;
inline constexpr int64_t kMaxPlacedExperts = 4 << 20;  // (layer, expert) pairs over all shards
inline constexpr size_t kMaxPlannedIdBytes = 128;

// Reads the text form of ccoe.v1.PlacementPlan. INVALID_ARGUMENT lists the mistakes, one a line, as
// "FILE:LINE:COLUMN: worker "ID": what": syntax, numbers that are none, a worker without id or
// named twice, an expert twice on one worker, a negative budget. `file` is for those messages only.
// Whether the plan suits a model is CheckPlan's business.
absl::StatusOr<Plan> ParsePlan(absl::string_view text, absl::string_view file);

// Reads and parses a file. NOT_FOUND, or as ParsePlan.
absl::StatusOr<Plan> ReadPlan(const std::string& path);

// The text form, one line a shard: layers with the same experts stand together.
std::string PlanText(const Plan& plan);

// The same over the wire. Errors as ParsePlan, without places.
v1::PlacementPlan PlanToProto(const Plan& plan);
absl::StatusOr<Plan> PlanFromProto(const v1::PlacementPlan& proto);

// What can be said without the model: worker ids are there and unique, budgets are not negative.
absl::Status CheckWorkers(const Plan& plan);

// And with it: every (layer, expert) of the model is placed, nothing else is, and no worker's
// tensors (of `dtype`) exceed its budget. INVALID_ARGUMENT lists the mistakes, one a line; each
// says which shard or worker, a worker over its budget with the sum spelled out.
absl::Status CheckPlan(const Plan& plan, const model::ModelSpec& spec, kernels::DType dtype);

}  // namespace ccoe::placement

#endif  // CCOE_RUNTIME_PLACEMENT_PLAN_H_
