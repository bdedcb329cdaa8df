// SPDX-License-Identifier: Apache-2.0
// The engine's thread: takes what came in, lands answers, forms steps, runs micro batches.
//
// clang-format off
//   RequestQueue --submissions, cancels, answers--> Handle --> Land --.
//                                                                     v
//   scheduler --StepPlan--> StartStep --> MicroBatch --> Advance: layers here ..
//                                                          |  .. rows of layer experts leave: RemoteLayers
//                                                          |  .. MoE layer with experts elsewhere: RemoteMoe
//                                                          v
//                                   the end: OutputProcessor (head, sampling, sinks); runnable again
// clang-format on
#ifndef CCOE_RUNTIME_ENGINE_ENGINE_LOOP_H_
#define CCOE_RUNTIME_ENGINE_ENGINE_LOOP_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "runtime/base/clock.h"
#include "runtime/engine/directory.h"
#include "runtime/engine/engine_options.h"
#include "runtime/engine/in_flight.h"
#include "runtime/engine/micro_batch.h"
#include "runtime/engine/model_runner.h"
#include "runtime/engine/output_processor.h"
#include "runtime/engine/recovery.h"
#include "runtime/engine/remote_layers.h"
#include "runtime/engine/remote_moe.h"
#include "runtime/engine/request_queue.h"
#include "runtime/engine/scheduler.h"
#include "runtime/engine/sequence_table.h"

namespace ccoe::engine {

class EngineLoop {
 public:
  // Where experts are; they outlive the loop.
  struct Directories {
    ExpertDirectory* layer_experts = nullptr;  // null: lost workers have no replicas
    FfnDirectory* ffn_experts = nullptr;       // null: all FFN experts are with the backbone
  };
  // `options` passed Validate; `pages` is the capacity of the runner's KV.
  EngineLoop(std::unique_ptr<ModelRunner> runner, std::shared_ptr<RequestQueue> queue,
             const Directories& directories, const EngineOptions& options, int64_t pages);

  // Returns once the queue was stopped; what is not finished then ends with CANCELLED. After an
  // error of the device everything ends with it, and what still comes too.
  void Run();

 private:
  void Handle(RequestQueue::Events events);
  void EndAll(FinishReason reason, const absl::Status& status);
  void EndWithDevice();
  void Publish();
  absl::Time NextEvent() const;

  // Forms a step if it is time to, and runs it as far as it goes without an expert. False: nothing
  // to do now.
  bool FormStep();
  MicroBatch StartStep(const StepPlan& plan);
  void RunStep(MicroBatch batch);

  // Runs the batch as far as it goes here, and delivers what comes to the end of the layers.
  void RunToEnd(MicroBatch batch);
  // To the end of the layers, unless the batch is away before.
  absl::Status Advance(MicroBatch& batch);
  absl::Status RunLayers(MicroBatch& batch, int32_t last);
  // Layers that need nothing from the host on their way.
  absl::Status RunPlainLayers(MicroBatch& batch, int32_t last);
  absl::Status ReadHidden(MicroBatch& batch, int32_t plane);
  void Deliver(MicroBatch& batch, absl::Span<const HeldRows> held);

  // Answers that came together go on together: a layer or the head reads its weights once for rows
  // of several experts.
  void Land(std::vector<SwapAnswer> answers);
  void RunLanded(RemoteLayers::Landed landed);
  void Resume(RemoteMoe::Resumed resumed);
  // Reports the steps of which a part has run, and nothing is in flight any more.
  void EndSteps();

  const model::ModelSpec& spec() const { return runner_->model().spec; }

  const EngineOptions options_;
  const Clock& clock_;
  const SchedulerLimits limits_;
  const std::unique_ptr<ModelRunner> runner_;
  const std::shared_ptr<RequestQueue> queue_;
  SequenceTable sequences_;
  InFlightTable in_flight_;
  OutputProcessor output_;
  Recovery recovery_;
  RemoteLayers layers_;
  std::unique_ptr<RemoteMoe> moe_;  // null: a model without MoE layers
  uint64_t last_step_id_ = 0;
  int64_t last_step_rows_ = 0;
  absl::flat_hash_set<std::shared_ptr<Step>> touched_;  // a part has run since the last EndSteps
  absl::Time counted_ = absl::InfinitePast();  // in_flight_, for whether a step may be formed
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_ENGINE_LOOP_H_
