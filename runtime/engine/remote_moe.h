// Runs branches through the MoE layers whose choice of experts the host must see: where experts are
// elsewhere (the branch is suspended until the expert workers' contributions are back), requests
// steer the gate or want to know what it chose.
#ifndef CCOE_RUNTIME_ENGINE_REMOTE_MOE_H_
#define CCOE_RUNTIME_ENGINE_REMOTE_MOE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/engine/model_runner.h"
#include "runtime/engine/output_processor.h"
#include "runtime/engine/engine_options.h"
#include "runtime/engine/ffn_directory.h"
#include "runtime/engine/request_queue.h"
#include "runtime/engine/moe_board.h"
#include "runtime/engine/scheduler.h"
#include "runtime/engine/micro_batch.h"

namespace ccoe::engine {

// Used by the engine's thread alone.
class RemoteMoe {
 public:
  // What it works with; all but `directory` (null: all experts are with the backbone) and those of
  // `options` must not be null, and must outlive it.
  struct Parts {
    ModelRunner* runner = nullptr;
    OutputProcessor* delivery = nullptr;
    FfnDirectory* directory = nullptr;
    MoeBoard* board = nullptr;
  };
  RemoteMoe(const EngineOptions& options, const Parts& parts);

  // The first layer from the branch's cursor on, below `last`, that is for Run; else `last`. The
  // layers before it can run as any others: dense, or with all their experts here.
  int32_t NextStop(const MicroBatch& branch, int32_t last);

  // Runs the MoE layer at the branch's cursor over the rows in the runner. True: it is done, the
  // cursor stands behind it and the entries whose queries lived on are left. False: the branch has
  // gone into a flight. An error is the device's or the decoder's and leaves the branch as it was.
  absl::StatusOr<bool> Run(MicroBatch& branch);

  // A branch whose rows are in the runner again, its cursor behind the layer.
  struct Resumed {
    std::shared_ptr<Step> step;
    MicroBatch branch;  // may have no entries left
    absl::Status status;
  };
  // Takes an answer to a swap of the board's. nullopt: others are still away, or it came too late.
  // Where a worker failed, its rows go to replicas; queries whose rows have nowhere to go end with
  // an error that names the worker, step and layer.
  std::optional<Resumed> Land(SwapAnswer answer);

 private:
  std::shared_ptr<const FfnTable> Table();
  // By layer of the model: all experts are here, by the table now.
  const std::vector<bool>& AllHere();
  std::optional<model::GateSteering> Steering(const MicroBatch& branch, int32_t layer) const;
  absl::StatusOr<model::RoutedRows> Route(const MicroBatch& branch);
  FfnDispatchPlan Plan(const model::RoutedRows& routed, absl::Span<const int32_t> pairs,
                       const FfnTable& table, const MoeFlight* flight);
  absl::Status RunOwn(const model::RoutedRows& routed, absl::Span<const FfnPart> own);
  absl::StatusOr<BatchState> RunOwnAndPark(const MoeFlight& flight);
  absl::Status Suspend(MicroBatch& branch, model::RoutedRows routed, std::vector<FfnPart> own,
                       std::vector<AwayPart> away);
  // Copies the experts' input into the flight, before its scratch is used again; PackParts waits.
  absl::Status KeepRows(MoeFlight& flight);
  // Makes the rows of parts that are not sent yet ready to be.
  absl::Status PackParts(MoeFlight& flight);
  RowForm FormFor(const exchange::ActivationLink& link) const {
    return {link.device_memory(), options_.wire_dtype};
  }
  absl::Status Finish(int32_t layer, const model::RoutedRows& routed, absl::Span<const FfnPart> own,
                      const std::list<AwayPart>& away);
  absl::Status DropDead(MicroBatch& branch);

  void FailRows(absl::Span<StepEntry> entries, const model::RoutedRows& routed,
                absl::Span<const int32_t> pairs, const absl::Status& status);
  void SendElsewhere(MoeBoard::Landing landing, const absl::Status& why);
  absl::Status CheckAnswer(const AwayPart& part, const exchange::SwapResult& result) const;
  void Observe(const AwayPart& part, const absl::StatusOr<exchange::SwapResult>& result) const;

  const EngineOptions options_;
  const Parts parts_;
  const int64_t hidden_size_;
  const int64_t max_part_pairs_;
  const std::shared_ptr<const FfnTable> all_here_;  // without a directory
  std::weak_ptr<const FfnTable> judged_;            // what judged_here_ is of; keeps no link alive
  std::vector<bool> judged_here_;
  uint64_t turn_ = 0;
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_REMOTE_MOE_H_
