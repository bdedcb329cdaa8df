// The engine's thread: takes what came in, lands answers, forms steps, runs branches.
#ifndef CCOE_RUNTIME_ENGINE_ENGINE_LOOP_H_
#define CCOE_RUNTIME_ENGINE_ENGINE_LOOP_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "runtime/engine/model_runner.h"
#include "runtime/engine/output_processor.h"
#include "runtime/engine/engine_options.h"
#include "runtime/engine/ffn_directory.h"
#include "runtime/engine/request_queue.h"
#include "runtime/engine/moe_board.h"
#include "runtime/engine/remote_moe.h"
#include "runtime/engine/sequence_table.h"
#include "runtime/engine/scheduler.h"
#include "runtime/engine/micro_batch.h"
#include "runtime/engine/swap_board.h"

namespace ccoe::engine {

class EngineLoop {
 public:
  // `options` passed Validate; `pages` is the capacity of the runner's KV.
  // `ffn` may be null: all FFN experts are with the backbone; else it outlives the loop.
  EngineLoop(std::unique_ptr<ModelRunner> runner, std::shared_ptr<RequestQueue> inbox, FfnDirectory* ffn,
             const EngineOptions& options, int64_t pages);

  // Returns once the inbox was stopped; what is not finished then ends with CANCELLED.
  void Run();

 private:
  void Handle(RequestQueue::Events events);
  void CancelAll();
  void Publish();

  // Forms a step if it is time to, and runs it as far as it goes without an expert. False: nothing
  // to do now.
  bool FormStep();
  MicroBatch StartStep(const StepPlan& plan);
  void RunStep(MicroBatch branch);

  // Runs the branch to the end of the layers, sending away what leaves on the way, and delivers the
  // rest.
  void RunToEnd(MicroBatch branch);
  // False: the branch has gone into a flight.
  absl::StatusOr<bool> Advance(MicroBatch& branch);
  absl::StatusOr<bool> RunLayers(MicroBatch& branch, int32_t last);
  // Layers that need nothing from the host on their way.
  absl::Status RunPlainLayers(MicroBatch& branch, int32_t last);
  absl::Status SendAway(MicroBatch& branch, const std::vector<LeavingGroup>& groups);
  absl::Status ReadHidden(MicroBatch& branch, int32_t plane);

  void LandAnswer(SwapAnswer answer);
  void LandContributions(SwapAnswer answer);
  void Continue(SwapFlight flight, exchange::SwapResult result);
  void Deliver(SwapFlight flight, exchange::SwapResult result);
  void ObserveSwap(const SwapFlight& flight, const absl::StatusOr<exchange::SwapResult>& result);
  void EndStepIfOver(const Step& step);

  const model::ModelSpec& spec() const { return runner_->model().spec; }

  const EngineOptions options_;
  const SchedulerLimits limits_;
  const std::unique_ptr<ModelRunner> runner_;
  const std::shared_ptr<RequestQueue> inbox_;
  SequenceTable roster_;
  SwapBoard swaps_;
  MoeBoard moe_swaps_;
  OutputProcessor delivery_;
  RemoteMoe moe_;
  uint64_t last_step_id_ = 0;
  int64_t last_step_rows_ = 0;
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_ENGINE_LOOP_H_
