// SPDX-License-Identifier: Apache-2.0
// The engine of a backbone worker: continuous batching without a barrier over layer experts.
//
// A step is a value in flight with a layer cursor. The loop (one thread) forms a step from runnable
// sequences, runs the backbone's layers up to where its rows leave for their experts, sends each
// group over its link and goes on with whatever is ready: another group's answer, another step. An
// answer's rows run the layers that follow the expert (if any), norm, head and sampling, and their
// sequences are runnable again.
#ifndef CCOE_RUNTIME_ENGINE_ENGINE_H_
#define CCOE_RUNTIME_ENGINE_ENGINE_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/ops.h"
#include "runtime/engine/directory.h"
#include "runtime/engine/engine_options.h"
#include "runtime/engine/request.h"

namespace ccoe::engine {

// Thread-safe.
class Engine {
 public:
  // `ops` runs on the engine's thread only. `directory` may be null (no layer experts), and so may
  // `ffn` (all FFN experts are with the backbone); they must outlive the engine.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(BackboneModel model,
                                                        std::unique_ptr<kernels::Ops> ops,
                                                        ExpertDirectory* directory,
                                                        FfnDirectory* ffn,
                                                        const EngineOptions& options);
  // Cancels what runs and joins.
  ~Engine();

  // Queues a query. On OK `sink` will get OnFinish exactly once. On error (INVALID_ARGUMENT:
  // prompt, sampling; NOT_FOUND: expert; RESOURCE_EXHAUSTED: queue full, the message says when to
  // retry; UNAVAILABLE: draining) `sink` is never called. Returns a handle for Cancel.
  absl::StatusOr<uint64_t> Submit(EngineRequest query, std::unique_ptr<TokenSink> sink);

  // Ends the query with CANCELLED soon; unknown or finished handles are ignored.
  void Cancel(uint64_t handle);

  // Refuses new queries and waits for the others until `deadline`; true if none is left.
  bool Drain(absl::Time deadline);

  EngineLoad Load() const;

  // OK, or UNAVAILABLE for good: the device computes no more. What ran has ended with this, and
  // what is submitted gets it.
  absl::Status Health() const;

 private:
  class Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_ENGINE_H_
