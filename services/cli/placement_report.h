// Placements of FFN experts, for people and for programs.
#ifndef CCOE_SERVICES_CLI_PLACEMENT_REPORT_H_
#define CCOE_SERVICES_CLI_PLACEMENT_REPORT_H_

#include <string>

#include "kernels/dtype.h"
#include "nlohmann/json.hpp"
#include "runtime/model/model_spec.h"
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

}  // namespace ccoe::cli

#endif  // CCOE_SERVICES_CLI_PLACEMENT_REPORT_H_
