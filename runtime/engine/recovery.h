// What becomes of the queries whose swap failed.
#ifndef CCOE_RUNTIME_ENGINE_RECOVERY_H_
#define CCOE_RUNTIME_ENGINE_RECOVERY_H_

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "runtime/engine/sequence_table.h"
#include "runtime/engine/swap_board.h"

namespace ccoe::engine {

// How often a query that makes no progress is tried again before it ends with the error.
inline constexpr int kMaxExhaustedRetries = 8;
inline constexpr int kMaxLostKvRetries = 3;

// RESOURCE_EXHAUSTED: the expert has no room. Of a group the youngest query is preempted, and with
// it those before it that have no KV there yet, up to half of the group; for a query alone the
// youngest one of this expert that can be. They try again after a pause that doubles each time, or
// when a query of this expert ends. A query that has the expert for itself and still fails
// kMaxExhaustedRetries times ends with the error. FAILED_PRECONDITION: the expert lost its KV. All
// are computed again from their first token, kMaxLostKvRetries times between two tokens. Anything
// else ends the queries: kError, `status` with the expert, link, swap and layers named.
void RecoverFromSwapError(SwapFlight& flight, const absl::Status& status, SequenceTable& roster,
                          absl::Time now);

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_RECOVERY_H_
