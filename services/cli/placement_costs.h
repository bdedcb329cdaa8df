// Measures what placing FFN experts depends on, on this machine.
#ifndef CCOE_SERVICES_CLI_PLACEMENT_COSTS_H_
#define CCOE_SERVICES_CLI_PLACEMENT_COSTS_H_

#include "absl/status/statusor.h"
#include "kernels/dtype.h"
#include "runtime/base/parallel.h"
#include "runtime/model/model_spec.h"
#include "runtime/placement/cost_model.h"

namespace ccoe::cli {

// Runs experts of the first MoE layer's shape with made-up weights of `dtype`, and swaps rows with
// a worker that computes nothing over gRPC on loopback: a second or two. RESOURCE_EXHAUSTED where
// the weights do not fit into memory; errors of the server and the link.
absl::StatusOr<placement::Costs> MeasureCosts(const model::ModelSpec& spec, kernels::DType dtype,
                                              kernels::DType wire_dtype, ThreadTeam* team);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_PLACEMENT_COSTS_H_
