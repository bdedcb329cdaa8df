// SPDX-License-Identifier: Apache-2.0
// The one table of what is away: micro batches that wait for workers, and the swaps that went to
// them, whether for layer experts or for FFN experts.
//
// clang-format off
//   micro batch --Hold--> Flight { swap to expert-0, swap to expert-1, .. }
//                            |  Send: swaps that are not sent yet, an envelope a link
//                            |  Land: an answer finds its flight and swap
//                            v
//                         all arrived, or nobody waits: Release --> micro batch
// clang-format on
//
// There are no deadlines here: a link answers every swap, when it breaks too.
#ifndef CCOE_RUNTIME_ENGINE_IN_FLIGHT_H_
#define CCOE_RUNTIME_ENGINE_IN_FLIGHT_H_

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "runtime/base/clock.h"
#include "runtime/engine/directory.h"
#include "runtime/engine/engine_options.h"
#include "runtime/engine/ffn_dispatch.h"
#include "runtime/engine/micro_batch.h"
#include "runtime/engine/model_runner.h"
#include "runtime/engine/request_queue.h"
#include "runtime/engine/scheduler.h"

namespace ccoe::engine {

// What went, or shall go, to one worker as one swap.
struct AwaySwap {
  enum class State : uint8_t { kUnsent, kAway, kArrived };

  State state = State::kUnsent;
  FfnPeer peer;                 // the worker and the link to it
  exchange::SwapHeader header;  // its id is given when it is sent
  exchange::SwapRows outgoing;  // until it is sent
  exchange::RowBlock rows;      // what came back
  FfnPart part;                 // of FFN experts: which rows and pairs of the pass these are
  absl::Time sent;
  bool named_hung = false;

  // "expert worker expert-2 over grpc://10.0.0.7:8201, step 12, layer 7", or ".. expert math@1 ..,
  // swap 12, layers [4, 8)": for messages.
  std::string Describe(const Step& step) const;
};

// What a micro batch that waits inside a MoE layer needs to go on.
struct SuspendedMoe {
  explicit SuspendedMoe(BatchState rows) : parked(std::move(rows)) {}

  BatchState parked;         // its rows
  model::RoutedRows routed;  // its view of the rows is not used any more
  // [rows, hidden_size]: the experts' input, to send again if need be. f32 of host memory, or in
  // the wire's dtype on the device.
  exchange::RowBlock rows;
  std::vector<FfnPart> own;  // the part that ran here: one or none
  // Links not to be asked now: broken, or full.
  absl::flat_hash_set<std::shared_ptr<exchange::ActivationLink>> failed;

  // Pairs whose workers are full: they are asked again at `next_try`.
  std::vector<int32_t> unplaced;
  absl::Status full;  // as one of `failed` said it last; OK: none of them is full
  absl::Time full_since = absl::InfiniteFuture();  // the first time
  absl::Time next_try = absl::InfiniteFuture();
  int tries = 0;
};

// A micro batch that waits: for one swap to a layer expert (`binding` set), or for FFN experts of
// the layer at its cursor (`moe` set).
struct Flight {
  MicroBatch batch;
  std::list<AwaySwap> swaps;  // in the order sent
  std::shared_ptr<const ExpertBinding> binding;
  std::optional<SuspendedMoe> moe;

  // Whether nothing of it is away any more.
  bool landed() const;
  bool complete() const { return landed() && (!moe.has_value() || moe->unplaced.empty()); }
};

// What an observer is told of an answer that came at `now`.
SwapEvent EventOf(const AwaySwap& swap, const absl::StatusOr<exchange::SwapResult>& result,
                  absl::Time now);

// For how long what is away keeps other sequences waiting: `least`, or three usual round trips.
class Patience {
 public:
  explicit Patience(absl::Duration least) : least_(least) {}

  // A round trip that ended; the usual one is a moving average.
  void Observe(absl::Duration round_trip) { usual_ = usual_ * 0.8 + round_trip * 0.2; }
  absl::Duration now() const { return std::max(least_, 3 * usual_); }

 private:
  const absl::Duration least_;
  absl::Duration usual_ = absl::ZeroDuration();
};

// Used by the engine's thread alone; the answers come through `queue`.
class InFlightTable {
 public:
  InFlightTable(const EngineOptions& options, std::shared_ptr<RequestQueue> queue);

  // Takes flights, each of which its step has more, and sends their swaps.
  void Hold(std::vector<std::unique_ptr<Flight>> flights);
  // Sends the swaps of `flights` that are not sent yet: those of one link in one envelope, or more
  // where it may carry less.
  void Send(absl::Span<Flight* const> flights);

  // A flight and the swap of it that an answer is for.
  struct Landing {
    Flight* flight = nullptr;
    std::list<AwaySwap>::iterator swap;
  };
  // nullopt: none of ours, or one that was forgotten. The swap is kArrived.
  std::optional<Landing> Land(uint64_t swap_id);

  // Takes a flight out, whatever of it is away: what still comes back for it is dropped, and its
  // worker is told not to compute it.
  std::unique_ptr<Flight> Release(Flight& flight);
  // Tells workers not to compute swaps of queries that have all ended. Their answers come all the
  // same.
  void CancelDead();

  // Adds the steps that are still worth waiting for to `occupancy`, see
  // EngineOptions::step_patience.
  void Count(absl::Time now, Occupancy& occupancy) const;
  // When the next of them stops being so, a swap is to be named as hung, or SuspendedMoe::next_try.
  // `counted` is the time that Count was asked for last: what ended since then is over at once.
  absl::Time NextEvent(absl::Time counted) const;
  // Suspended flights whose next_try has come.
  std::vector<Flight*> DueMoe(absl::Time now) const;
  // Names, once each, the swaps that are away for longer than EngineOptions::hung_after.
  std::vector<std::string> TakeHung(absl::Time now);

  bool empty() const { return flights_.empty(); }

 private:
  void SendOver(const std::shared_ptr<exchange::ActivationLink>& link,
                absl::Span<AwaySwap* const> swaps, uint64_t step_id);
  void Cancel(const Flight& flight) const;

  const EngineOptions options_;
  const Clock& clock_;
  const std::shared_ptr<RequestQueue> queue_;
  std::map<const Flight*, std::unique_ptr<Flight>> flights_;
  absl::flat_hash_map<uint64_t, Flight*> by_swap_;  // of what is away
  uint64_t last_id_ = 0;
  Patience patience_;
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_IN_FLIGHT_H_
