// SPDX-License-Identifier: Apache-2.0
// Where FFN experts run faster: with the backbone, or on workers of their own.
#ifndef CCOE_RUNTIME_PLACEMENT_COST_MODEL_H_
#define CCOE_RUNTIME_PLACEMENT_COST_MODEL_H_

#include <cstdint>
#include <string>

#include "kernels/dtype.h"
#include "runtime/model/model_spec.h"

namespace ccoe::placement {

// Measured, or known.
struct Costs {
  double expert_seconds_1 = 0;    // one expert over 1 row, its weights not in the cache
  double expert_seconds_128 = 0;  // over 128 rows
  double round_trip_seconds = 0;  // of a swap of one row, computing nothing
  double bytes_per_second = 0;    // of a link, > 0
};

struct CostQuestion {
  int workers = 1;    // that the experts would be dealt to, evenly
  int64_t rows = 32;  // of a step: decoding sequences, and tokens of prompts
  // The workers run on the backbone's machine: they share its cores, so nothing is computed at the
  // same time.
  bool shared_machine = false;
  kernels::DType wire_dtype = kernels::DType::kF32;
  int64_t expert_bytes = 0;  // of all FFN experts
  int64_t memory_bytes = 0;  // that the backbone's machine has for them; 0: unknown
};

struct CostAnswer {
  bool with_backbone = true;
  // Of one MoE layer of one step.
  double here_seconds = 0;
  double workers_seconds = 0;
  std::string reason;  // a sentence or two with the numbers, for people
};

// Compares one MoE layer (the model's first) of one step. Here, the experts that the rows choose
// run one after the other; on workers those of different workers run at the same time, and every
// row travels to each worker it needs, every (row, expert) result back. What a second step in
// flight hides is not counted. Where the experts do not fit the backbone's memory, workers win
// whatever the time. `spec` has a MoE layer.
CostAnswer CompareCosts(const model::ModelSpec& spec, const Costs& costs,
                        const CostQuestion& question);

}  // namespace ccoe::placement

#endif  // CCOE_RUNTIME_PLACEMENT_COST_MODEL_H_
