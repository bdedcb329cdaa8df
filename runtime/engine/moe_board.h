// Branches that are suspended at a MoE layer: sends their rows to the expert workers, knows which
// parts are still away, and gives up on links that never answer.
#ifndef CCOE_RUNTIME_ENGINE_MOE_BOARD_H_
#define CCOE_RUNTIME_ENGINE_MOE_BOARD_H_

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"
#include "kernels/dtype.h"
#include "runtime/engine/model_runner.h"
#include "runtime/engine/ffn_directory.h"
#include "runtime/engine/ffn_dispatch.h"
#include "runtime/engine/request_queue.h"
#include "runtime/engine/patience.h"
#include "runtime/engine/scheduler.h"
#include "runtime/engine/micro_batch.h"

namespace ccoe::engine {

// A part of a suspended branch that went to a worker.
struct AwayPart {
  FfnPart part;
  FfnPeer peer;
  uint64_t swap_id = 0;  // 0: not sent yet
  bool arrived = false;
  exchange::RowBlock outgoing;  // its rows until they are sent; empty: they are cut out of
                                // MoeFlight::rows
  exchange::RowBlock rows;      // what came back
  absl::Time sent, deadline;

  // "expert worker expert-2 over grpc://10.0.0.7:8201, step 12, layer 7", for messages.
  std::string Describe(uint64_t step_id) const;
};

// A branch that waits for FFN experts of the layer at its cursor.
struct MoeFlight {
  MicroBatch branch;
  BatchState parked;
  model::RoutedRows routed;  // its view of the rows is not used any more
  // [rows, hidden_size]: the experts' input, to send again if need be. f32 of host memory, or in
  // the wire dtype on the device; then parts have `outgoing`.
  exchange::RowBlock rows;
  std::vector<FfnPart> own;  // the part that ran here: one or none
  std::list<AwayPart> away;  // in the order sent
  absl::flat_hash_set<const exchange::ActivationLink*> broken;  // failed in this flight

  explicit MoeFlight(BatchState rows) : parked(std::move(rows)) {}
  bool complete() const;
};

struct MoeBoardOptions {
  int64_t hidden_size = 0;
  kernels::DType wire_dtype = kernels::DType::kF32;
  absl::Duration swap_timeout;
  absl::Duration step_patience;
};

// Used by the engine's thread alone; the answers come through `inbox`.
class MoeBoard {
 public:
  // `next_id` gives ids that rise over the engine's life, for all its swaps.
  MoeBoard(const MoeBoardOptions& options, std::shared_ptr<RequestQueue> inbox,
           std::function<uint64_t()> next_id);

  // Takes the flight, whose step has one swap in flight more, and sends the parts that are not
  // sent.
  void Hold(std::unique_ptr<MoeFlight> flight);
  void SendParts(MoeFlight& flight);

  // A flight and the part of it that an answer is for.
  struct Landing {
    MoeFlight* flight = nullptr;
    std::list<AwayPart>::iterator part;
  };
  // nullopt: no part of ours, or one that was given up.
  std::optional<Landing> Land(uint64_t swap_id, absl::Time now);

  // Takes a complete flight out; its step has one swap in flight less.
  std::unique_ptr<MoeFlight> Release(MoeFlight& flight);
  // Forgets a flight: what comes back for it is dropped.
  void Abandon(MoeFlight& flight);

  // As SwapBoard's.
  std::vector<uint64_t> Overdue(absl::Time now) const;
  void Count(absl::Time now, Occupancy& occupancy) const;
  absl::Time NextEvent(absl::Time now) const;

  bool empty() const { return flights_.empty(); }

 private:
  const MoeBoardOptions options_;
  const std::shared_ptr<RequestQueue> inbox_;
  const std::function<uint64_t()> next_id_;
  std::map<const MoeFlight*, std::unique_ptr<MoeFlight>> flights_;
  std::map<uint64_t, MoeFlight*> by_swap_;  // parts that are away
  Patience patience_;
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_MOE_BOARD_H_
