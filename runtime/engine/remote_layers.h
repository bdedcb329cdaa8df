// SPDX-License-Identifier: Apache-2.0
// Layer experts elsewhere: sends the rows that leave a micro batch to their experts, and takes in
// what comes back, sequence by sequence.
#ifndef CCOE_RUNTIME_ENGINE_REMOTE_LAYERS_H_
#define CCOE_RUNTIME_ENGINE_REMOTE_LAYERS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/engine/engine_options.h"
#include "runtime/engine/in_flight.h"
#include "runtime/engine/micro_batch.h"
#include "runtime/engine/model_runner.h"
#include "runtime/engine/output_processor.h"
#include "runtime/engine/recovery.h"

namespace ccoe::engine {

// Used by the engine's thread alone.
class RemoteLayers {
 public:
  // The pointers must outlive it.
  struct Parts {
    ModelRunner* runner = nullptr;
    InFlightTable* in_flight = nullptr;
    Recovery* recovery = nullptr;
  };
  RemoteLayers(const EngineOptions& options, const Parts& parts);

  // Sends away `groups`, as GroupsLeaving gave them; the other entries stay, and their rows in the
  // runner. An error is the device's.
  absl::Status SendAway(MicroBatch& batch, absl::Span<const LeavingGroup> groups);

  // Rows that experts computed, not in the runner yet. The batch's entries are those computed, its
  // cursor stands behind the experts; of entry i the last held[i].count rows lie in `rows`, block
  // after block.
  struct Landed {
    MicroBatch batch;
    std::vector<HeldRows> held;
    int64_t returned = 0;  // of all entries
    std::vector<exchange::RowBlock> rows;
    std::vector<std::shared_ptr<const ExpertBinding>> bindings;  // keep the head that `batch` names
  };
  // Takes in the answer to a swap of a flight with a binding. Sequences that were not computed are
  // handed to recovery.
  Landed Land(InFlightTable::Landing landing, absl::StatusOr<exchange::SwapResult> result);
  // Joins what can run as one micro batch: rows of one step, behind the same layer, with the same
  // head. In the order of the first of each.
  static std::vector<Landed> Join(std::vector<Landed> landed);

 private:
  struct LeavingRows;

  exchange::SwapHeader HeaderOf(const ExpertBinding& binding,
                                absl::Span<const StepEntry> entries) const;
  // The entries of a group in pieces that the link's bounds allow.
  std::vector<std::vector<size_t>> CutToBounds(const MicroBatch& batch,
                                               const LeavingGroup& group) const;
  std::unique_ptr<Flight> FlightOf(const MicroBatch& batch, const LeavingGroup& group,
                                   const std::vector<size_t>& entries) const;
  absl::Status HandOver(std::vector<LeavingRows> leaving);
  void Observe(const AwaySwap& swap, const absl::StatusOr<exchange::SwapResult>& result) const;

  const EngineOptions options_;
  const Clock& clock_;
  const Parts parts_;
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_REMOTE_LAYERS_H_
