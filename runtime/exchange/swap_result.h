// SPDX-License-Identifier: Apache-2.0
// What comes of a swap: rows, with a verdict for each sequence, or the reason why it, or one of its
// sequences, was not computed. The reason decides what the sender does next; it travels as an enum
// of its own and is never guessed from a status code.
#ifndef CCOE_RUNTIME_EXCHANGE_SWAP_RESULT_H_
#define CCOE_RUNTIME_EXCHANGE_SWAP_RESULT_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "runtime/exchange/envelope.h"
#include "runtime/exchange/row_block.h"

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

// Rows that came back, in the order of the header's sequences (those that were computed), or of an
// FFN swap's rows (combine) or pairs: f32 (widened from the wire's dtype) in host memory, or in the
// wire's dtype on the device, where the rows sent were on one too and there was room.
struct SwapResult {
  std::vector<float> rows;      // [ReturnedRows(header), hidden_size], or empty:
  RowBlock device_rows;         // likewise, on a device
  std::vector<float> captured;  // with capture_layers: [layers.size(), header.rows(), hidden_size]
  // Of a layer swap: OK or why not (SwapError), for each sequence in the header's order. Empty: all
  // were computed. One that was not holds no KV of these rows, and no rows of it come back.
  std::vector<absl::Status> verdicts;
  absl::Duration expert_time = absl::ZeroDuration();  // computing, on the expert worker

  // Of the rows that came back, wherever they lie.
  int64_t row_values() const {
    return device_rows.on_device() ? device_rows.values() : static_cast<int64_t>(rows.size());
  }
  RowBlock TakeRows() {
    return device_rows.on_device() ? std::move(device_rows) : RowBlock(std::move(rows));
  }
  // Of the header's i-th sequence.
  bool computed(size_t i) const { return verdicts.empty() || verdicts[i].ok(); }
};

// Rows that come back with `result`, given its verdicts.
int64_t ReturnedRows(const SwapHeader& header, const SwapResult& result);

// INTERNAL where the result is not of the shape its header asks for: rows, captured rows, verdicts
// (as many as sequences, or none).
absl::Status CheckResult(const SwapHeader& header, const SwapResult& result);

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_SWAP_RESULT_H_
