// SPDX-License-Identifier: Apache-2.0
// Which worker gets which rows of a MoE layer, and how what comes back is put together. Pure: looks
// at numbers, touches no device and no link.
#ifndef CCOE_RUNTIME_ENGINE_FFN_DISPATCH_H_
#define CCOE_RUNTIME_ENGINE_FFN_DISPATCH_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "runtime/engine/directory.h"
#include "runtime/exchange/envelope.h"
#include "runtime/model/ffn.h"

namespace ccoe::engine {

// What goes to one worker, or stays with the backbone: each row once, with the experts it needs
// there.
struct FfnPart {
  int32_t peer = FfnTable::kHere;  // index into the table's peers
  std::vector<int32_t> rows;       // of the pass, rising: row i of `swap`
  std::vector<int32_t> pairs;      // of the routed rows, rising: pair i of `swap`
  exchange::FfnSwap swap;
};

struct FfnDispatchPlan {
  std::vector<FfnPart> parts;
  std::vector<int32_t> lost;  // pairs whose expert is nowhere
};

struct FfnDispatchOptions {
  bool combine = false;            // see exchange::FfnSwap
  bool here = true;                // experts that are with the backbone may run there
  int64_t max_part_pairs = 16384;  // a part of more is cut
  uint64_t turn = 0;               // replicas of equal load take turns by it
};

// Places `pairs` (indices into `routed`, rising) on the workers of `table` for which usable[peer]
// is true. An expert that is with the backbone stays there; else all its pairs go to the holder
// that has the fewest so far, experts with many pairs first. The choice moves no bit of the result.
FfnDispatchPlan PlanFfnDispatch(const model::RoutedRows& routed, absl::Span<const int32_t> pairs,
                                const FfnTable& table, const std::vector<bool>& usable,
                                const FfnDispatchOptions& options);

// For each contribution a part returns, its place among all contributions of the pass, and how many
// there are of each row. Deterministic mode: the pairs themselves. Combined: one a row and part,
// part after part.
struct CombineOrder {
  std::vector<int32_t> offsets;              // [rows + 1]
  std::vector<std::vector<int32_t>> places;  // [parts]
};
CombineOrder OrderOf(const model::RoutedRows& routed, absl::Span<const FfnPart* const> parts,
                     bool combine);

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_FFN_DISPATCH_H_
