// What an engine reports about itself, for metrics. The engine knows no metrics library; a service
// fills its histograms.
#ifndef CCOE_RUNTIME_ENGINE_OBSERVER_H_
#define CCOE_RUNTIME_ENGINE_OBSERVER_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "runtime/base/ids.h"
#include "runtime/engine/request.h"
#include "runtime/exchange/swap_reason.h"

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

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_OBSERVER_H_
