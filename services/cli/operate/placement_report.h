// SPDX-License-Identifier: Apache-2.0
// What `ccoe placement` shows, for people and for programs, and what it measures.
#ifndef CCOE_SERVICES_CLI_OPERATE_PLACEMENT_REPORT_H_
#define CCOE_SERVICES_CLI_OPERATE_PLACEMENT_REPORT_H_

#include <string>

#include "absl/status/statusor.h"
#include "kernels/dtype.h"
#include "nlohmann/json_fwd.hpp"
#include "runtime/base/parallel.h"
#include "runtime/model/model_spec.h"
#include "runtime/placement/cost_model.h"
#include "runtime/placement/expert_demand.h"
#include "runtime/placement/plan.h"

namespace ccoe::cli {

// A plan with what its report is made of; the plan's shards lie within the spec.
struct PlacementView {
  const placement::Plan& plan;
  const model::ModelSpec& spec;
  kernels::DType dtype;                 // of the experts
  const placement::ExpertLoads& loads;  // empty: even
};

// A line a worker, and one for the backbone where it has some: experts, bytes and budget, share of
// the load (of an expert with replicas each takes its part; what is with the backbone runs there
// alone), layers and experts.
std::string PlacementTable(const PlacementView& view);

// {"model_fingerprint": "..", "workers": [{"worker_id": "..", "memory_budget_bytes": 0, "experts":
// 16, "bytes": 491520, "load": 0.5, "shards": [{"layers": "0-3", "experts": "0-3"}]}],
// "with_backbone": {"experts": .., "bytes": .., "load": .., "shards": [..]}}
nlohmann::json PlacementJson(const PlacementView& view);

// Measures what placing FFN experts depends on, on this machine: runs experts of the first MoE
// layer's shape with made-up weights of `dtype`, and swaps rows with a worker that computes nothing
// over gRPC on loopback: a second or two. RESOURCE_EXHAUSTED where the weights do not fit into
// memory; errors of the server and the link.
absl::StatusOr<placement::Costs> MeasureCosts(const model::ModelSpec& spec, kernels::DType dtype,
                                              kernels::DType wire_dtype, ThreadTeam* team);

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_OPERATE_PLACEMENT_REPORT_H_
