// SPDX-License-Identifier: Apache-2.0
// Deals the copies of one layer's experts to workers: the planner's inner step.
#ifndef CCOE_RUNTIME_PLACEMENT_LAYER_DEAL_H_
#define CCOE_RUNTIME_PLACEMENT_LAYER_DEAL_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace ccoe::placement {

// Whether copies[e] copies of each expert can be dealt so that worker w gets quotas[w] and no
// expert twice (Gale and Ryser's condition).
bool CanDeal(absl::Span<const int32_t> copies, absl::Span<const int64_t> quotas);

struct LayerDeal {
  absl::Span<const double> shares;   // of each expert in the layer's load
  absl::Span<const int32_t> copies;  // 1 to workers
  absl::Span<const int64_t> quotas;  // copies each worker gets; CanDeal
  absl::Span<const double> loads;    // of each worker from the layers before; breaks ties
};

// The workers of each expert, rising. Equal shares are dealt in blocks of neighbours; others so
// that the workers' loads even out, the hottest first.
std::vector<std::vector<int32_t>> Deal(const LayerDeal& layer);

}  // namespace ccoe::placement

#endif  // CCOE_RUNTIME_PLACEMENT_LAYER_DEAL_H_
