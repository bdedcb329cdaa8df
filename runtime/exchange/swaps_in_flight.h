// The swaps of one link that wait for an answer: flow control, deadlines, one callback each. Shared
// by all transports.
#ifndef CCOE_RUNTIME_EXCHANGE_SWAPS_IN_FLIGHT_H_
#define CCOE_RUNTIME_EXCHANGE_SWAPS_IN_FLIGHT_H_

#include <cstdint>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/exchange/silence_watch.h"
#include "runtime/exchange/step_header.h"

namespace ccoe::exchange {

// INVALID_ARGUMENT where the header is wrong (Validate) or `rows` is not [header.rows(),
// hidden_size], f32 of host memory or of the wire dtype on the device of `memory` (null: none).
absl::Status CheckSwap(const StepHeader& header, const RowBlock& rows, int64_t hidden_size,
                       const StepLimits& limits, const RowMemory* memory = nullptr);

// Thread-safe. Callbacks run without a lock held: those of Answer on its caller's thread, all
// others on a thread of this object's own, so that none runs inside a call of the link's user.
class SwapsInFlight {
 public:
  struct Options {
    std::string link_name;                            // starts every message
    int max_swaps = 64;                               // one more is refused with RESOURCE_EXHAUSTED
    absl::Duration longest_wait = absl::Minutes(10);  // an InfiniteFuture deadline is cut to this
    // Without a word from the peer (Heard) for so long while swaps are in flight, the link is
    // closed; longer where many bytes are on their way. InfiniteDuration: never.
    absl::Duration silence_timeout = absl::InfiniteDuration();
    // Asks the peer for a sign of life; required with a silence_timeout. Called on the own thread,
    // several times in a silence_timeout, only while swaps are in flight; must not block.
    absl::AnyInvocable<void()> send_heartbeat;
    // Called once, on the own thread, after the link was closed and the swaps in flight have ended.
    absl::AnyInvocable<void()> on_closed;
  };

  explicit SwapsInFlight(Options options);
  ~SwapsInFlight();  // Stop

  // Takes a swap in. False: it was refused and its callback is on its way with INVALID_ARGUMENT
  // (step id not rising), RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED (`deadline` has passed; the link
  // lives on) or UNAVAILABLE (closed).
  bool Begin(const StepHeader& header, absl::Time deadline, SwapCallback done);

  // Ends a swap that was never taken in.
  void Refuse(absl::Status why, SwapCallback done);

  // Hands an answer to its swap. INTERNAL where the peer broke the protocol: no such step in flight
  // (an answer given twice, or a step never sent) or a result of the wrong size (its swap ends with
  // INTERNAL too); the transport then closes the link. After Close late answers are dropped.
  absl::Status Answer(uint64_t step_id, absl::StatusOr<SwapResult> result);

  // As Answer, but the callback runs on the own thread, and the link is closed here on a broken
  // protocol.
  void AnswerLater(uint64_t step_id, absl::StatusOr<SwapResult> result);

  // Something came from the peer, whatever it was.
  void Heard() { silence_.Heard(); }

  // Ends all swaps in flight with UNAVAILABLE and `why`; the first call counts. Does not wait.
  void Close(absl::string_view why);

  // Close, then waits until all callbacks and on_closed have run.
  void Stop();

  // OK, or UNAVAILABLE with the reason of the Close.
  absl::Status Health() const;

 private:
  struct Waiting {
    absl::Time deadline;
    int64_t row_values = 0;  // floats expected back
    int64_t captured_values = 0;
    int64_t bytes = 0;  // both ways
    SwapCallback done;
  };
  using Delivery = std::pair<SwapCallback, absl::StatusOr<SwapResult>>;

  absl::Status RefusalLocked(const StepHeader& header, absl::Time deadline) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes the step out and puts its callback with what it is to be told into `delivery`.
  absl::Status TakeLocked(uint64_t step_id, absl::StatusOr<SwapResult> result,
                          std::vector<Delivery>& deliveries) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CloseLocked(absl::string_view why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ExpireLocked(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether a heartbeat is due; closes the link where the peer is silent.
  bool HeartbeatDueLocked(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Watch();

  Options options_;
  mutable absl::Mutex mutex_;
  absl::CondVar wake_;
  absl::flat_hash_map<uint64_t, Waiting> waiting_ ABSL_GUARDED_BY(mutex_);  // by step id
  int64_t waiting_bytes_ ABSL_GUARDED_BY(mutex_) = 0;                       // sum over waiting_
  std::vector<Delivery> deliveries_ ABSL_GUARDED_BY(mutex_);
  absl::Time next_look_ ABSL_GUARDED_BY(mutex_) =
      absl::InfiniteFuture();  // when the own thread wakes by itself
  absl::Time next_heartbeat_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();  // nothing in flight
  SilenceWatch silence_;  // but for Heard, used with mutex_ held
  absl::Status health_ ABSL_GUARDED_BY(mutex_);
  bool any_sent_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t last_step_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread watcher_;
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_SWAPS_IN_FLIGHT_H_
