// SPDX-License-Identifier: Apache-2.0
// One pass of a layer's FFN experts over the merged rows of several swaps. Stateless.
#ifndef CCOE_RUNTIME_EXPERTS_FFN_PASS_H_
#define CCOE_RUNTIME_EXPERTS_FFN_PASS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/experts/pass_memory.h"
#include "runtime/experts/unit_queue.h"
#include "runtime/model/ffn.h"
#include "runtime/model/model_spec.h"

namespace ccoe::experts {

// Runs `swaps`, all for one layer, through its experts: results in their order. `experts[e]` is
// expert e's; those that occur are set. A row's bits depend on nothing but the row, its experts and
// their weights.
absl::StatusOr<std::vector<exchange::SwapResult>> RunFfnPass(
    const model::FfnSpec& ffn, absl::Span<const model::FfnExpertWeights> experts,
    absl::Span<const WaitingSwap> swaps, PassMemory& memory);

}  // namespace ccoe::experts

#endif  // CCOE_RUNTIME_EXPERTS_FFN_PASS_H_
