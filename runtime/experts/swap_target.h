// Where a pass puts what a swap gives.
#ifndef CCOE_RUNTIME_EXPERTS_SWAP_TARGET_H_
#define CCOE_RUNTIME_EXPERTS_SWAP_TARGET_H_

#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "kernels/view.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/experts/swap_queue.h"

namespace ccoe::experts {

struct SwapTarget {
  exchange::SwapResult result;
  kernels::Matrix device_rows;  // result.device_rows, to be written; empty: result.rows is
};

// Room for header.returned_rows() rows of `hidden_size` values of each swap, in their order: on the
// device, in the wire dtype, where the swap's rows are and there is room, else in host memory.
std::vector<SwapTarget> TargetsOf(absl::Span<const WaitingSwap> swaps, int64_t hidden_size);

// The results of a pass that took `expert_time`, once what they give is complete.
std::vector<exchange::SwapResult> ResultsOf(std::vector<SwapTarget> targets,
                                            absl::Duration expert_time);

}  // namespace ccoe::experts

#endif  // CCOE_RUNTIME_EXPERTS_SWAP_TARGET_H_
