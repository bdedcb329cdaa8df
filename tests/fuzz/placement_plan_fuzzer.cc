// SPDX-License-Identifier: Apache-2.0
// Placement files: what is read is written and sent such that it comes back the same.
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "ccoe/v1/placement.pb.h"
#include "runtime/base/check.h"
#include "runtime/placement/plan.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/runtime/placement/moe_specs.h"

namespace ccoe::placement {

bool Same(const Plan& a, const Plan& b) {
  if (a.model_fingerprint != b.model_fingerprint || !(a.with_backbone == b.with_backbone) ||
      a.workers.size() != b.workers.size()) {
    return false;
  }
  for (size_t i = 0; i < a.workers.size(); ++i) {
    const WorkerPlan &one = a.workers[i], &other = b.workers[i];
    if (one.worker_id != other.worker_id || !(one.shard == other.shard) ||
        one.memory_budget_bytes != other.memory_budget_bytes) {
      return false;
    }
  }
  return true;
}

void ReadPlacement(FuzzInput input) {
  const auto plan = ParsePlan(input.Rest(), "plan");
  if (!plan.ok()) {
    CCOE_CHECK(plan.status().code() == absl::StatusCode::kInvalidArgument);
    CCOE_CHECK(plan.status().message().find("plan:") == 0);  // names the place
    return;
  }
  CCOE_CHECK(CheckWorkers(*plan).ok());
  const auto again = ParsePlan(PlanText(*plan), "plan");
  CCOE_CHECK(again.ok() && Same(*again, *plan));
  const auto sent = PlanFromProto(PlanToProto(*plan));
  CCOE_CHECK(sent.ok() && Same(*sent, *plan));
  // A plan that fits the model places what the model has and nothing else.
  const model::ModelSpec spec = MoeModel(/*dense=*/1, /*moe=*/2, /*experts=*/8);
  if (!CheckPlan(*plan, spec, kernels::DType::kBF16).ok()) return;
  model::FfnShard placed = plan->with_backbone;
  for (const WorkerPlan& worker : plan->workers) placed.Add(worker.shard);
  CCOE_CHECK(placed == model::FfnShard::All(spec));
}

}  // namespace ccoe::placement

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ccoe::placement::ReadPlacement({data, size});
  return 0;
}
