// Whether a placement suits a model.
#ifndef CCOE_RUNTIME_PLACEMENT_CHECK_PLAN_H_
#define CCOE_RUNTIME_PLACEMENT_CHECK_PLAN_H_

#include "absl/status/status.h"
#include "kernels/dtype.h"
#include "runtime/model/model_spec.h"
#include "runtime/placement/plan.h"

namespace ccoe::placement {

// What can be said without the model: worker ids are there and unique, budgets are not negative.
absl::Status CheckWorkers(const Plan& plan);

// And with it: every (layer, expert) of the model is placed, nothing else is, and no worker's
// tensors (of `dtype`) exceed its budget. INVALID_ARGUMENT lists the mistakes, one a line; each
// says which shard or worker, a worker over its budget with the sum spelled out.
absl::Status CheckPlan(const Plan& plan, const model::ModelSpec& spec, kernels::DType dtype);

}  // namespace ccoe::placement

#endif  // CCOE_RUNTIME_PLACEMENT_CHECK_PLAN_H_
