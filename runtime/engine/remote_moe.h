// SPDX-License-Identifier: Apache-2.0
// MoE layers whose choice of experts the host must see: where experts are elsewhere (the micro
// batch is suspended until the expert workers' contributions are back), requests steer the gate or
// want to know what it chose.
//
// clang-format off
//   attention, gate, top-k -> pairs (row, expert) -> a part for each worker, and the part that is here
//     all here:  run them, add contributions, on
//     else:      send the parts; run what is here; park the rows  ... answers ...  restore, add, on
// clang-format on
// A part whose worker fails goes to other holders of its experts. A worker that is full is asked
// again a little later. Where nobody is left who could take a pair, its sequence leaves the micro
// batch and tries the step again later (see recovery.h); the others go on.
#ifndef CCOE_RUNTIME_ENGINE_REMOTE_MOE_H_
#define CCOE_RUNTIME_ENGINE_REMOTE_MOE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/engine/directory.h"
#include "runtime/engine/engine_options.h"
#include "runtime/engine/in_flight.h"
#include "runtime/engine/micro_batch.h"
#include "runtime/engine/model_runner.h"
#include "runtime/engine/output_processor.h"
#include "runtime/engine/recovery.h"

namespace ccoe::engine {

// Used by the engine's thread alone.
class RemoteMoe {
 public:
  // What it works with; all but `directory` (null: all experts are with the backbone) and those of
  // `options` must not be null, and must outlive it.
  struct Parts {
    ModelRunner* runner = nullptr;
    OutputProcessor* output = nullptr;
    FfnDirectory* directory = nullptr;
    InFlightTable* in_flight = nullptr;
    Recovery* recovery = nullptr;
  };
  RemoteMoe(const EngineOptions& options, const Parts& parts);

  // The first layer from the batch's cursor on, below `last`, that is for Run; else `last`. The
  // layers before it can run as any others: dense, or with all their experts here.
  int32_t NextStop(const MicroBatch& batch, int32_t last);

  // Runs the MoE layer at the batch's cursor over the rows in the runner. The batch is away then,
  // or the layer is done and the living entries are left. An error is the device's
  // or the decoder's and leaves the batch as it was.
  absl::Status Run(MicroBatch& batch);

  // A micro batch whose rows are in the runner again, the layer at its cursor done. It may have no
  // entries left. An error is the device's or the decoder's.
  struct Resumed {
    MicroBatch batch;
    absl::Status status;
  };
  // Takes in the answer to a swap of a suspended flight. nullopt: others are still away.
  std::optional<Resumed> Land(InFlightTable::Landing landing,
                              absl::StatusOr<exchange::SwapResult> result);
  // Asks workers that were full again. To be called until it gives nothing more: each micro batch
  // it gives has to be run first.
  std::optional<Resumed> TryAgain();

 private:
  std::shared_ptr<const FfnTable> Table();
  // By layer of the model: all experts are here, by the table now.
  const std::vector<bool>& AllHere();
  std::optional<model::GateSteering> Steering(const MicroBatch& batch, int32_t layer) const;
  absl::StatusOr<model::RoutedRows> Route(const MicroBatch& batch);
  FfnDispatchPlan Plan(const model::RoutedRows& routed, absl::Span<const int32_t> pairs,
                       const FfnTable& table, const SuspendedMoe* suspended);
  absl::Status RunOwn(const model::RoutedRows& routed, absl::Span<const FfnPart> own);
  absl::StatusOr<BatchState> RunOwnAndPark(const SuspendedMoe& moe);
  absl::Status Suspend(MicroBatch& batch, model::RoutedRows routed, FfnDispatchPlan plan,
                       const FfnTable& table);
  // Adds the parts that are for workers as swaps to be sent.
  void AddSwaps(std::vector<FfnPart> parts, const FfnTable& table, Flight& flight);
  // Copies the experts' input into the flight, before its scratch is used again; PackRows waits.
  absl::Status KeepRows(Flight& flight);
  // Gives rows to the swaps that are not sent yet.
  absl::Status PackRows(Flight& flight);
  RowForm FormFor(const exchange::ActivationLink& link) const {
    return {link.device_memory(), options_.wire_dtype};
  }
  absl::Status Finish(int32_t layer, const model::RoutedRows& routed, absl::Span<const FfnPart> own,
                      const std::list<AwaySwap>& away);
  absl::Status DropDead(MicroBatch& batch);

  // Sends pairs (rising) whose swap failed to other holders. Where there is none they wait for one
  // that is full, or their sequences leave.
  void Place(Flight& flight, absl::Span<const int32_t> pairs, const absl::Status& why);
  void PutAside(Flight& flight, std::vector<int32_t> pairs, const absl::Status& why);
  // Sequences leave whose pairs wait for a full worker for too long.
  void EndLongWaits(Flight& flight);
  // Those whose entries are alive, rising.
  static std::vector<int32_t> LivingPairs(const Flight& flight, std::vector<int32_t> pairs);
  // The sequences of the pairs, which nobody took for so long, try the step again later. `why`: of
  // the swap that failed; OK: nobody was asked.
  void Withdraw(MicroBatch& batch, const model::RoutedRows& routed, std::vector<int32_t> pairs,
                const absl::Status& why, absl::Duration waited);
  // nullopt: something of it is still away.
  std::optional<Resumed> Resume(Flight& flight);

  const EngineOptions options_;
  const Clock& clock_;
  const Parts parts_;
  const int64_t hidden_size_;
  const int64_t max_part_pairs_;
  const std::shared_ptr<const FfnTable> all_here_;  // without a directory
  std::weak_ptr<const FfnTable> table_;             // the last one; keeps no link alive
  uint64_t table_epoch_ = 0;
  std::weak_ptr<const FfnTable> judged_;  // what judged_here_ is of
  std::vector<bool> judged_here_;
  uint64_t turn_ = 0;
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_REMOTE_MOE_H_
