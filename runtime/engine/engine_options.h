// SPDX-License-Identifier: Apache-2.0
// What an engine is made of and how large it is; what it reports on request, and of
// itself as it happens. The engine knows no metrics library; a service fills its histograms.
#ifndef CCOE_RUNTIME_ENGINE_ENGINE_OPTIONS_H_
#define CCOE_RUNTIME_ENGINE_ENGINE_OPTIONS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "kernels/dtype.h"
#include "runtime/base/clock.h"
#include "runtime/base/ids.h"
#include "runtime/engine/moe_control.h"
#include "runtime/engine/request.h"
#include "runtime/exchange/swap_result.h"
#include "runtime/model/decoder.h"
#include "runtime/model/head.h"
#include "runtime/model/model_spec.h"

namespace ccoe::engine {

// One swap that came back, well or not.
struct SwapEvent {
  ExpertRef expert;
  std::string link;            // ActivationLink::Name
  int64_t bytes_out = 0;       // rows sent, in the wire dtype
  int64_t bytes_in = 0;        // rows that came back; 0 on an error
  absl::Duration round_trip;   // from Send to its answer's arrival in the loop
  absl::Duration expert_time;  // of it, computing on the expert worker
  exchange::SwapReason reason = exchange::SwapReason::kNone;
};

// Calls come on the engine's thread and must not block. Every method does nothing unless
// overridden.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  // A step's last rows are back; `duration` counts from its forming.
  virtual void OnStep(int64_t rows, int64_t sequences, absl::Duration duration) {}
  virtual void OnSwap(const SwapEvent& event) {}
  // A swap is away for longer than EngineOptions::hung_after. `what` names worker, link, step,
  // layers and where the swap is.
  virtual void OnHungSwap(const std::string& what) {}
  // A query goes on at another worker.
  virtual void OnFailover() {}
  // Time from Submit to the first token of a query.
  virtual void OnFirstToken(absl::Duration since_submit) {}
  // Time between two tokens of one query.
  virtual void OnNextToken(absl::Duration since_previous) {}
  virtual void OnPreemption() {}
  virtual void OnFinish(FinishReason reason, const Usage& usage) {}
};

class MoeStatistics;

struct EngineOptions {
  int64_t kv_tokens = 65536;  // KV capacity below and above the split on the backbone, in tokens
  int64_t page_tokens = 32;
  kernels::DType kv_dtype = kernels::DType::kF32;  // of the KV cache; what the ops' device takes
  int64_t max_step_tokens = 512;  // token budget of a step: decode rows first, then prefill chunks
  int64_t max_prefill_chunk = 512;  // of one sequence in one step
  int max_running = 256;            // sequences that hold KV
  int max_waiting = 1024;           // admission queue; one more gets RESOURCE_EXHAUSTED
  int max_steps_in_flight = 2;      // ping-pong
  kernels::DType wire_dtype = kernels::DType::kF32;
  // How long a query whose expert no worker holds any more waits for one to come, and one that
  // finds no room at its expert for room. Zero: not at all.
  absl::Duration replica_patience = absl::Seconds(10);
  absl::Duration room_patience = absl::Seconds(30);
  // A swap that is away for so long is named once, with where it is (EngineObserver::OnHungSwap).
  absl::Duration hung_after = absl::Seconds(2);
  // A step whose experts have not answered for this long (or three usual round trips, whichever is
  // longer) no longer keeps other sequences waiting for it to fill their batch.
  absl::Duration step_patience = absl::Milliseconds(100);
  // Expert workers add up the contributions of a row's FFN experts before they send them back: less
  // traffic; results then depend on the placement within rounding.
  bool combine_on_workers = false;
  EngineObserver* observer = nullptr;  // may be null; must outlive the engine
  MoePolicy moe_policy;
  // Counts which experts the rows of MoE layers choose. May be null; must outlive the engine.
  MoeStatistics* moe_statistics = nullptr;
  const Clock* clock = nullptr;  // null: the system's; must outlive the engine
};

// The parts of a model the backbone holds.
struct BackboneModel {
  model::ModelSpec spec;
  std::shared_ptr<const model::TokenEmbedding> embedding;
  std::shared_ptr<const model::Decoder>
      decoder;  // layers [0, n); n < all where the base's own top is left out
  std::shared_ptr<const model::LmHead> head;
};

struct EngineLoad {
  int64_t waiting = 0, running = 0;
  int64_t kv_tokens_used = 0, kv_tokens_total = 0;
  int64_t prompt_tokens = 0, generated_tokens = 0, preemptions = 0, steps = 0;  // since start
  int64_t last_step_rows = 0;
};

// INVALID_ARGUMENT naming the option, its range and what was found.
absl::Status Validate(const EngineOptions& options);

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_ENGINE_OPTIONS_H_
