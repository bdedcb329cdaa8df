// SPDX-License-Identifier: Apache-2.0
// Why a swap, or one of its sequences, was not computed. The reason decides what the sender does
// next; it travels as an enum of its own and is never guessed from a status code.
#ifndef CCOE_RUNTIME_EXCHANGE_SWAP_REASON_H_
#define CCOE_RUNTIME_EXCHANGE_SWAP_REASON_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace ccoe::exchange {

// The numbers are those of ccoe.v1.SwapReason.
enum class SwapReason : uint8_t {
  kNone = 0,           // computed
  kInternal = 1,       // a bug, or a status without a reason: the query ends
  kInvalid = 2,        // the swap contradicts itself or the worker's model: the query ends
  kUnknownExpert = 3,  // the worker does not hold the expert (any more): another replica
  kLinkFull = 4,       // more waits to be sent than the link holds: later, or another replica
  kQueueFull = 5,      // likewise at the worker, or its device is short of memory
  kNoPages = 6,        // no free KV pages there: later, once others have given some back
  kKvLost = 7,         // the worker has no KV for positions before the swap's: from position 0
  kTooLong = 8,        // longer than the expert's whole KV cache: never
  kCancelled = 9,      // the sender released the sequence or cancelled the swap
  kDeviceFailed = 10,  // the worker's device does not compute any more: another replica
  kShuttingDown = 11,  // the worker stops: another replica
  kLinkBroken = 12,    // the peer died, fell silent or broke the protocol: another replica
};

// "no KV pages", for messages and metrics.
absl::string_view SwapReasonName(SwapReason reason);

// A status that carries `reason`; its code is the one a client would understand.
absl::Status SwapError(SwapReason reason, absl::string_view message);

// kNone for OK; kInternal for an error without a reason.
SwapReason ReasonOf(const absl::Status& status);

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_SWAP_REASON_H_
