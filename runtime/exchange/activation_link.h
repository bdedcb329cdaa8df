// SPDX-License-Identifier: Apache-2.0
// One flow-controlled link between one backbone worker and one expert worker, over which they swap
// activations. Implementations: local (same process) and grpc (anywhere; its rows may go over nccl
// beside the stream). All pass one conformance suite.
//
// The engine hands an envelope of swaps to Send and is called back once for each swap, as soon as
// it is computed. A link knows three kinds of trouble and keeps them apart: a swap, or one of its
// sequences, that is not computed (its answer has the reason, all else goes on); a peer that is
// slow (what has no credit waits, nothing is ended); a peer that is gone (all in flight ends with
// kLinkBroken). A swap's life:
//
// clang-format off
//   Send --> waits for credit --> sent --> taken in, waits at the worker --> computed --> done(result)
//     |         | CancelSwaps                  | CancelSwaps, ReleaseSequence     |
//     v         v                              v                                  v
//   kInvalid  kCancelled                     kCancelled                         done(reason), verdicts
//   kLinkFull                  Close, a silent or stalled peer, at any time: kLinkBroken
// clang-format on
#ifndef CCOE_RUNTIME_EXCHANGE_ACTIVATION_LINK_H_
#define CCOE_RUNTIME_EXCHANGE_ACTIVATION_LINK_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/device.h"
#include "runtime/exchange/envelope.h"
#include "runtime/exchange/row_block.h"
#include "runtime/exchange/swap_result.h"

namespace ccoe::exchange {

// Called exactly once for each swap that was sent, on a thread of the link's, of the handler's or
// of the network's, which others need too, for several swaps maybe at the same time; must not block
// and must not call the link. An error is a SwapError: of the swap as a whole.
using SwapCallback = absl::AnyInvocable<void(uint64_t swap_id, absl::StatusOr<SwapResult> result)>;

// Who is at the other end.
struct LinkPeer {
  std::string worker_id;
  // What the bits of its results depend on beside weights and rows; see kernels::NumericsClass.
  std::string numerics;
  std::string served_digest;  // of the base's weights as it serves them; empty: not known
  uint64_t epoch = 0;         // another value than last time: it restarted and holds no KV
};

// Thread-safe.
class ActivationLink {
 public:
  virtual ~ActivationLink() = default;  // closes first

  // Sends an envelope and calls `done` once for each of its swaps, each as soon as it is computed.
  // Does not wait for the network, and encodes few rows, or none, on the caller's thread. Swaps of
  // one sequence are computed in the order they were sent; others may overtake each other. There is
  // no deadline: a peer that computes for long is slow; one that is silent, or ends no pass and
  // answers no swap for PeerPatience::stall, is dead. `done` gets
  //   kInvalid        the envelope is wrong (Validate) or over bounds()
  //   kLinkFull       too much waits to be sent; nothing of it was
  //   kLinkBroken     the peer died or is silent, or the link is closed
  // or what the handler says (SwapHandler).
  virtual void Send(Envelope envelope, SwapCallback done) = 0;

  // Nobody waits for these swaps any more: what still waits is not computed. Each is answered all
  // the same, with kCancelled where it was not computed. Unknown ids are ignored.
  virtual void CancelSwaps(std::vector<uint64_t> swap_ids) = 0;

  // Frees the KV of a sequence on the worker, for all experts, and takes its rows out of swaps that
  // wait (verdict kCancelled). It takes effect after what is being computed now and before what is
  // sent later. Never fails: a link that is gone has no KV left.
  virtual void ReleaseSequence(uint64_t sequence_id) = 0;

  // Where rows may lie that this link takes from a device and, for those, brings back to it; null:
  // host memory only. Does not change; lives as long as the link, or the last block of it.
  virtual RowMemory* device_memory() const { return nullptr; }

  // Whether swaps can be sent. Cheap: no lock.
  virtual bool healthy() const = 0;
  // OK while they can, else why not.
  virtual absl::Status Health() const = 0;

  // Where a swap in flight is, for people: "waits to be sent: no credit", "sent, not taken in by
  // the worker for 2.1s", "waits at the worker, which computes math@1 since 2.1s", "not in flight".
  virtual std::string WhereIs(uint64_t swap_id) const = 0;

  // What one envelope may carry; more is refused with kInvalid. Does not change.
  virtual LinkBounds bounds() const { return {}; }

  virtual LinkPeer peer() const { return {}; }

  // Ends all swaps in flight with kLinkBroken and refuses more. May be called again.
  virtual void Close() = 0;

  // "local", "grpc://10.0.0.7:8201": for messages and metrics.
  virtual std::string Name() const = 0;
};

// What an expert worker is doing, for its peers' patience. Passes rise while it computes.
struct HostProgress {
  uint64_t passes = 0;                          // that ended, since the start
  std::string computing;                        // "math@1", "layer 7": empty where it is idle
  absl::Duration since = absl::ZeroDuration();  // the running pass began
};

// The other side of a link: what an expert worker does with an envelope. Implemented by
// experts::UnitHost, called by the transports. Thread-safe.
class SwapHandler {
 public:
  virtual ~SwapHandler() = default;

  // Computes the swaps of an envelope of peer `peer_id` and calls `done` exactly once for each,
  // maybe before this returns. The envelope has passed Validate; its rows are owned, of host memory
  // (f32, index allowed: the handler gathers, and rounds to the wire's dtype) or of device() in the
  // wire's dtype, and then the answer's rows are of its memory too where there is room. Errors of a
  // whole swap:
  //   kInvalid        layers the expert does not have, a layer without FFN experts
  //   kUnknownExpert  no such expert version, or an FFN expert the worker does not hold
  //   kQueueFull      more waits than the worker holds
  //   kCancelled      CancelSwaps
  //   kDeviceFailed, kShuttingDown
  //   kLinkBroken     the peer is being removed
  // and of single sequences, as verdicts: kKvLost, kNoPages, kTooLong, kCancelled.
  virtual void HandleEnvelope(uint64_t peer_id, Envelope envelope, SwapCallback done) = 0;

  // As ActivationLink's.
  virtual void HandleCancel(uint64_t peer_id, const std::vector<uint64_t>& swap_ids) = 0;
  virtual void HandleRelease(uint64_t peer_id, uint64_t sequence_id) = 0;

  // A peer opened a link; a fresh id, never reused.
  virtual uint64_t AddPeer() = 0;

  // A peer's link is gone: its waiting swaps end with kLinkBroken, its KV is freed. Returns after
  // the last `done` of that peer ran.
  virtual void RemovePeer(uint64_t peer_id) = 0;

  // Never waits for a pass.
  virtual HostProgress Progress() const = 0;

  // OK while it can compute; else the device's error (kDeviceFailed), for good.
  virtual absl::Status Health() const { return absl::OkStatus(); }

  // Whose rows this handler takes in place; null: host memory only.
  virtual kernels::Device* device() const { return nullptr; }

  // Width of the rows this handler takes.
  virtual int64_t hidden_size() const = 0;

  // See LinkPeer.
  virtual std::string numerics() const = 0;
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_ACTIVATION_LINK_H_
