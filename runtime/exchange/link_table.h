// SPDX-License-Identifier: Apache-2.0
// All that a link has in flight: what every transport is built on. A swap enters with Begin, is
// sent, and leaves with its answer, with the link, or, cancelled before it was sent, by itself; its
// callback runs exactly once.
//
// clang-format off
//   Begin --> waits --StartSending--> sent --a heartbeat says so--> at the worker --Answer--> result
//     |         |                       |                              |
//     |         | Cancel                +---- Close, silence, stall ---+
//     v         v                                     v
//   kInvalid  kCancelled                          kLinkBroken
//   kLinkFull
// clang-format on
#ifndef CCOE_RUNTIME_EXCHANGE_LINK_TABLE_H_
#define CCOE_RUNTIME_EXCHANGE_LINK_TABLE_H_

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
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
#include "runtime/base/clock.h"
#include "runtime/exchange/activation_link.h"
#include "runtime/exchange/envelope.h"

namespace ccoe::exchange {

// What is put up with of a peer while swaps are in flight.
struct PeerPatience {
  // Without a sign of life. InfiniteDuration: a peer without a wire, never looked at.
  absl::Duration silence = absl::Milliseconds(700);
  // Without a pass that ended or a swap that was answered.
  absl::Duration stall = absl::Seconds(60);
};

// Whether the peer of a link still lives and gets on. A busy peer answers heartbeats, a stopped one
// does not, though its connection lives: that is silence. A peer that answers and yet ends no pass
// has stalled. No threads, no clock, no wire. Heard and Progressed may be called from any thread;
// the rest from one at a time.
class PeerWatch {
 public:
  // What a look came to.
  struct Verdict {
    bool silent = false;   // for longer than allowed
    bool stalled = false;  // likewise
    absl::Duration heard_nothing = absl::ZeroDuration();
    absl::Duration no_progress = absl::ZeroDuration();
    absl::Time next_look = absl::InfiniteFuture();  // no sooner; InfiniteFuture: when swaps begin
  };

  // More silence, and a longer stall, is allowed as long as the bytes in flight may take on a slow
  // network.
  explicit PeerWatch(const PeerPatience& patience) : patience_(patience) {}

  // Something came from the peer.
  void Heard() { heard_.fetch_add(1, std::memory_order_relaxed); }
  // It ended a pass or answered a swap.
  void Progressed() { progressed_.fetch_add(1, std::memory_order_relaxed); }

  // To be called at `next_look`, and when a swap begins while there is none. `bytes` are those of
  // all swaps in flight, both ways. Time since the last look counts at most twice what was planned:
  // whoever was not running itself does not blame the peer for it.
  Verdict Look(absl::Time now, bool in_flight, int64_t bytes);

 private:
  // How long one of the two counters has stood still.
  struct Still {
    uint64_t then = 0;  // at the last look
    absl::Duration time = absl::ZeroDuration();
  };
  static void Count(const std::atomic<uint64_t>& counter, bool anew, absl::Duration step,
                    Still& still);

  const PeerPatience patience_;
  std::atomic<uint64_t> heard_ = 0, progressed_ = 0;
  Still silence_, stall_;
  absl::Time last_look_ = absl::InfinitePast();  // InfinitePast: none since swaps were in flight
};

// Thread-safe. Callbacks run without a lock held: those of Answer on its caller's thread, all
// others on a thread of this object's own, so that none runs inside a call of the link's user.
class LinkTable {
 public:
  struct Options {
    std::string link_name;  // starts every message
    int64_t hidden_size = 0;
    EnvelopeLimits limits;
    int64_t max_bytes = std::numeric_limits<int64_t>::max();  // of an envelope, each way
    const RowMemory* memory = nullptr;  // where rows of a device may lie; null: host memory only
    SwapCredit capacity;                // waiting and sent together; more gets kLinkFull
    PeerPatience patience = {absl::InfiniteDuration(), absl::InfiniteDuration()};
    // Asks the peer for a sign of life; required with a patience. Called on the own thread, several
    // times in a patience.silence while swaps are in flight; must not block.
    absl::AnyInvocable<void()> send_heartbeat;
    // And so often while none is. Whether the peer answers then is looked at with the next swap.
    absl::Duration idle_heartbeat = absl::InfiniteDuration();
    // Called once, on the own thread, after the link was closed and the swaps in flight have ended.
    absl::AnyInvocable<void()> on_closed;
    const Clock* clock = nullptr;  // null: the system's
  };

  explicit LinkTable(Options options);
  ~LinkTable();  // Stop

  // Takes an envelope's swaps in; they wait. False: it was refused as a whole and the callbacks are
  // on their way, with kInvalid (wrong, over the bounds, or ids not above the last), kLinkFull or
  // kLinkBroken (closed). `done` may be called for several swaps at the same time.
  bool Begin(const Envelope& envelope, SwapCallback done);

  // The envelope leaves: swaps cancelled since Begin are taken out of it, the others are sent from
  // now on. Returns what those taken out would have cost.
  SwapCredit StartSending(Envelope& envelope);

  // Answers swaps that wait with kCancelled; returns those the peer has to be told, each once.
  std::vector<uint64_t> Cancel(const std::vector<uint64_t>& swap_ids);

  // Of a swap that was sent and not answered; else null.
  std::shared_ptr<const SwapHeader> Find(uint64_t swap_id) const;

  // Hands an answer to its swap. INTERNAL where the peer broke the protocol: no such swap was sent
  // (an answer given twice, or to nobody) or a result of the wrong shape (its swap ends with
  // kInternal too); the transport then closes the link. After Close late answers are dropped.
  absl::Status Answer(uint64_t swap_id, absl::StatusOr<SwapResult> result);

  // As Answer, but the callback runs on the own thread, and the link is closed here on a broken
  // protocol.
  void AnswerLater(uint64_t swap_id, absl::StatusOr<SwapResult> result);

  // Something came from the peer, whatever it was.
  void Heard() { watch_.Heard(); }
  // How far it says it is: the highest swap it has taken in is `taken_in`.
  void Heard(const HostProgress& progress, uint64_t taken_in);

  // Ends all swaps in flight with kLinkBroken and `why`; the first call counts. Does not wait.
  void Close(absl::string_view why);

  // Close, then waits until all callbacks and on_closed have run.
  void Stop();

  bool healthy() const { return healthy_.load(std::memory_order_acquire); }
  // OK, or kLinkBroken with the reason of the Close.
  absl::Status Health() const;
  // See ActivationLink; of a swap that waits to be sent, without the reason.
  std::string WhereIs(uint64_t swap_id) const;

 private:
  struct Entry {
    std::shared_ptr<const SwapHeader> header;
    std::shared_ptr<SwapCallback> done;  // shared by an envelope's swaps; null: cancelled, answered
    bool sent = false;
    bool cancel_told = false;
    absl::Time since;  // it began to wait, then: was sent
  };
  struct Delivery {
    uint64_t swap_id = 0;
    std::shared_ptr<SwapCallback> done;
    absl::StatusOr<SwapResult> result;
  };

  absl::Status Check(const Envelope& envelope) const;
  absl::Status RefusalLocked(const Envelope& envelope, const SwapCredit& cost) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes the swap out and puts its callback with what it is to be told into `deliveries`.
  absl::Status TakeLocked(uint64_t swap_id, absl::StatusOr<SwapResult> result,
                          std::vector<Delivery>& deliveries) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CloseLocked(absl::string_view why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Of heartbeats that nobody watches: whether one is due.
  bool IdleHeartbeatDueLocked(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether a heartbeat is due; closes the link where the peer is silent or stalled.
  bool HeartbeatDueLocked(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string ComputingLocked(absl::Time now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Watch();
  static void Deliver(std::vector<Delivery>& deliveries);

  Options options_;
  const Clock& clock_;
  mutable absl::Mutex mutex_;
  absl::CondVar wake_;
  absl::flat_hash_map<uint64_t, Entry> entries_ ABSL_GUARDED_BY(mutex_);  // by swap id
  SwapCredit in_flight_ ABSL_GUARDED_BY(mutex_);                          // sum over entries_
  int64_t sent_bytes_ ABSL_GUARDED_BY(mutex_) = 0;                        // of those sent
  std::vector<Delivery> deliveries_ ABSL_GUARDED_BY(mutex_);
  absl::Time next_look_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();  // nothing in flight
  absl::Time next_idle_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  PeerWatch watch_;                                // but for Heard, used with mutex_ held
  HostProgress progress_ ABSL_GUARDED_BY(mutex_);  // as it was at:
  absl::Time progress_time_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  uint64_t taken_in_ ABSL_GUARDED_BY(mutex_) = 0;
  std::atomic<bool> healthy_ = true;
  absl::Status health_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread watcher_;
};

}  // namespace ccoe::exchange

#endif  // CCOE_RUNTIME_EXCHANGE_LINK_TABLE_H_
