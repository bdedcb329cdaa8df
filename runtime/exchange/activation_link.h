// One ordered, flow-controlled link between one backbone worker and one expert worker, over which
// they swap activations. Implementations: local (same process), grpc (anywhere), nccl (GPUs). All
// pass one conformance suite.
#ifndef CCOE_RUNTIME_EXCHANGE_ACTIVATION_LINK_H_
#define CCOE_RUNTIME_EXCHANGE_ACTIVATION_LINK_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/device.h"
#include "runtime/exchange/row_block.h"
#include "runtime/exchange/row_memory.h"
#include "runtime/exchange/step_header.h"
#include "runtime/exchange/swap_size.h"

namespace ccoe::exchange {

// Rows that came back, in the order of the header's sequences or, of a dispatch, of its rows
// (combine) or pairs: f32 (widened from the wire dtype) in host memory, or in the wire dtype on the
// device, where the rows sent were on one too and there was room.
struct SwapResult {
  std::vector<float> rows;  // [header.returned_rows(), hidden_size], or empty:
  RowBlock device_rows;     // likewise, on a device
  std::vector<float>
      captured;  // with capture_layers: [layers.size(), header.rows(), hidden_size], else empty
  absl::Duration expert_time = absl::ZeroDuration();  // computing, on the expert worker

  // Of the rows that came back, wherever they lie.
  int64_t row_values() const {
    return device_rows.on_device() ? device_rows.values() : static_cast<int64_t>(rows.size());
  }
  RowBlock TakeRows() {
    return device_rows.on_device() ? std::move(device_rows) : RowBlock(std::move(rows));
  }
};

// Called exactly once for each accepted Swap, on a thread of the link's; must not block and must
// not call the link.
using SwapCallback = absl::AnyInvocable<void(absl::StatusOr<SwapResult>)>;

// Thread-safe.
class ActivationLink {
 public:
  virtual ~ActivationLink() = default;  // closes first

  // Sends `rows` [header.rows(), hidden_size] and calls `done` with the answer. Rows of host memory
  // are f32 and read before Swap returns; rows of a device are in the wire dtype, lie in
  // device_memory()'s device and are shared until they are sent. Swaps of one link are computed in
  // the order they were sent. `done` gets
  //   INVALID_ARGUMENT     the header is wrong (Validate), or disagrees with `rows`
  //   NOT_FOUND            the worker does not hold this expert version, or an FFN expert of the
  //   dispatch FAILED_PRECONDITION  the worker holds no KV for positions before first_position (it
  //   restarted): recompute from 0 RESOURCE_EXHAUSTED   too many swaps in flight, or no KV pages:
  //   preempt and try again DEADLINE_EXCEEDED    no answer by `deadline` (a late one is dropped);
  //   the link is unavailable from then on UNAVAILABLE          the peer died or hangs, or the link
  //   is closed; all swaps in flight end so
  virtual void Swap(const StepHeader& header, const RowBlock& rows, absl::Time deadline,
                    SwapCallback done) = 0;

  // Where rows may lie that this link takes from a device and, for those, brings back to it; null:
  // host memory only. Does not change; lives as long as the link, or the last block of it.
  virtual RowMemory* device_memory() const { return nullptr; }

  // Frees the KV of a sequence on the worker, for all experts. In order with swaps: it takes effect
  // after those sent before. Never fails: a link that is gone has no KV left.
  virtual void ReleaseSequence(uint64_t sequence_id) = 0;

  // OK while swaps can be sent, else why not.
  virtual absl::Status Health() const = 0;

  // What one swap may carry; more is refused with INVALID_ARGUMENT. MaxSwapRows says how many rows
  // that is.
  virtual SwapBounds bounds() const { return {}; }

  // Ends all swaps in flight with UNAVAILABLE and refuses more. May be called again.
  virtual void Close() = 0;

  // "local", "grpc://10.0.0.7:8201": for messages and metrics.
  virtual std::string Name() const = 0;
};

// The other side of a link: what an expert worker does with a swap. Implemented by
// experts::ExpertRunner and experts::FfnRunner, called by the transports. Thread-safe.
class SwapHandler {
 public:
  virtual ~SwapHandler() = default;

  // Computes a swap of peer `peer_id`; `rows` [header.rows(), hidden_size], owned: f32 of host
  // memory, or of device() in the wire dtype, and then the answer's rows are of its memory too
  // where there is room. Calls `done` exactly once, with the codes listed at ActivationLink::Swap.
  // Swaps of one peer are computed in the order of the calls; RESOURCE_EXHAUSTED at once where too
  // many wait.
  virtual void HandleSwap(uint64_t peer_id, const StepHeader& header, RowBlock rows,
                          SwapCallback done) = 0;

  // Whose rows this handler takes in place; null: host memory only.
  virtual kernels::Device* device() const { return nullptr; }

  // As ActivationLink::ReleaseSequence.
  virtual void HandleRelease(uint64_t peer_id, uint64_t sequence_id) = 0;

  // A peer opened a link; a fresh id, never reused.
  virtual uint64_t AddPeer() = 0;

  // A peer's link is gone: its waiting swaps end with UNAVAILABLE, its KV is freed. Returns after
  // the last `done` of that peer ran.
  virtual void RemovePeer(uint64_t peer_id) = 0;

  // Width of the rows this handler takes.
  virtual int64_t hidden_size() const = 0;
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_ACTIVATION_LINK_H_
