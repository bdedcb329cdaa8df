// SPDX-License-Identifier: Apache-2.0
// What a query must be like to be let in: pure checks, made on the caller's thread. And the queue:
// where the rest of the world meets the engine's thread: submissions, cancellations and swap
// answers go in, the load comes out. Shared with the links' callbacks, so that an answer that comes
// after the engine is gone still finds it.
#ifndef CCOE_RUNTIME_ENGINE_REQUEST_QUEUE_H_
#define CCOE_RUNTIME_ENGINE_REQUEST_QUEUE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "runtime/base/clock.h"
#include "runtime/engine/directory.h"
#include "runtime/engine/engine_options.h"
#include "runtime/engine/request.h"
#include "runtime/engine/sequence.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/model/model_spec.h"

namespace ccoe::engine {

struct AdmissionLimits {
  int64_t vocab_size = 0;
  int64_t context_tokens = 0;     // of the model
  int64_t kv_tokens = 0;          // a sequence can hold at most, on the backbone
  int32_t layer_count = 0;        // of the model
  model::LayerRange held_layers;  // on the backbone
  MoePolicy moe_policy;
  // For queries with a MoeControl; null: a model without MoE layers. shared_ptr: limits are copied.
  std::shared_ptr<const model::ModelSpec> spec;
};

//   INVALID_ARGUMENT     sampling values, an empty prompt, an id outside the vocabulary, a prompt
//                        that fills the context; a MoeControl as CheckMoeControl
//   PERMISSION_DENIED    a MoeControl beyond the policy
//   RESOURCE_EXHAUSTED   a prompt that the KV cache can never hold
absl::Status CheckQuery(const EngineRequest& query, const AdmissionLimits& limits);

// The tokens a checked query may generate: its max_tokens cut to what the context and the KV
// caches, here and at its expert (null: none), leave. 0: it scores alone. RESOURCE_EXHAUSTED where
// the expert's cache can never hold the prompt.
absl::StatusOr<int64_t> TokensToGenerate(const EngineRequest& query, const ExpertBinding* binding,
                                         const AdmissionLimits& limits);

// FAILED_PRECONDITION where the backbone lacks layers that a query with this expert (null: without
// one) runs on it. INTERNAL for a binding without a link or with an absurd layer range.
absl::Status CheckLayers(const ExpertBinding* binding, const AdmissionLimits& limits);

// INVALID_ARGUMENT where `control` (may be null) names a layer that the expert (null: none) takes
// the place of: its gates are not the model's.
absl::Status CheckMoeLayers(const MoeControl* control, const ExpertBinding* binding);

// The ids that end the query's answer: its own, and the model's unless it ignores them.
std::vector<int32_t> StopIds(const SamplingParams& sampling, const std::vector<int32_t>& eos_ids);

struct SwapAnswer {
  uint64_t swap_id = 0;
  absl::StatusOr<exchange::SwapResult> result;
};

// Thread-safe.
class RequestQueue {
 public:
  // What came in since the last Take.
  struct Events {
    std::vector<SequenceInit> submissions;
    std::vector<uint64_t> cancels;
    std::vector<SwapAnswer> answers;
    bool stop = false;
  };

  // What the engine's thread did.
  struct Report {
    EngineLoad load;
    std::vector<uint64_t> finished;
    int64_t fresh_waiting = 0;  // admitted to the queue, not yet run
  };

  // `clock`: null: the system's.
  RequestQueue(int64_t max_waiting, uint64_t seed_entropy, const Clock* clock = nullptr)
      : max_waiting_(max_waiting), seed_entropy_(seed_entropy), clock_(ClockOr(clock)) {}

  // Gives `init` its handle and, where the query has none, its seed. RESOURCE_EXHAUSTED with a
  // retry hint where the queue is full; UNAVAILABLE while draining.
  absl::StatusOr<uint64_t> Submit(SequenceInit init) ABSL_LOCKS_EXCLUDED(mutex_);
  void Cancel(uint64_t handle) ABSL_LOCKS_EXCLUDED(mutex_);
  void Answer(SwapAnswer answer) ABSL_LOCKS_EXCLUDED(mutex_);
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);
  // From now on submissions are refused with `why`, and Health says it.
  void Fail(const absl::Status& why) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Health() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Refuses further submissions and waits until all handles are finished, or `deadline`; true if
  // they are.
  bool Drain(absl::Time deadline) ABSL_LOCKS_EXCLUDED(mutex_);
  EngineLoad Load() const ABSL_LOCKS_EXCLUDED(mutex_);

  // For the engine's thread: waits for something to come in, at most for `timeout` (0 or less: does
  // not wait).
  Events Take(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mutex_);
  void Publish(const Report& report, absl::Time now) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  bool HasEvents() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Duration RetryHint() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int64_t max_waiting_;
  const uint64_t seed_entropy_;
  const Clock& clock_;
  mutable absl::Mutex mutex_;
  Events events_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<uint64_t> live_ ABSL_GUARDED_BY(mutex_);       // submitted and not finished
  absl::flat_hash_set<uint64_t> cancelled_ ABSL_GUARDED_BY(mutex_);  // of those
  uint64_t last_handle_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status health_ ABSL_GUARDED_BY(mutex_);
  EngineLoad load_ ABSL_GUARDED_BY(mutex_);
  absl::Time last_finish_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  double seconds_per_query_ ABSL_GUARDED_BY(mutex_) = 0.0;  // moving average; 0: not known yet
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_REQUEST_QUEUE_H_
