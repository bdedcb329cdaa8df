// SPDX-License-Identifier: Apache-2.0
// All living sequences: who waits, who runs, whose KV pages they hold. Every change of a running
// sequence's state goes through the table, which keeps what the scheduler and the clock need to
// know in order: a wake costs as much as changed since the last one, not as much as there are.
#ifndef CCOE_RUNTIME_ENGINE_SEQUENCE_TABLE_H_
#define CCOE_RUNTIME_ENGINE_SEQUENCE_TABLE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "runtime/engine/engine_options.h"
#include "runtime/engine/scheduler.h"
#include "runtime/engine/sequence.h"
#include "runtime/model/kv_cache.h"

namespace ccoe::engine {

// Used by the engine's thread alone.
class SequenceTable {
 public:
  using Table = std::map<uint64_t, std::shared_ptr<Sequence>>;  // by handle: oldest first

  // `observer` may be null.
  SequenceTable(int64_t pages, int64_t page_tokens, EngineObserver* observer);

  void Enqueue(std::shared_ptr<Sequence> sequence);
  // Null where the sequence is finished or was never here.
  std::shared_ptr<Sequence> Find(uint64_t handle) const;

  const Table& waiting() const { return waiting_; }  // preempted ones too
  const Table& running() const { return running_; }
  const model::KvPages& pages() const { return pages_; }

  // Ends pauses that are over by now; whether there were any. To be called before the views are
  // asked for.
  bool Wake(absl::Time now);

  // Running sequences that could go into a step, and waiting ones that may start; counted, and as
  // the scheduler sees them. Oldest first; of the waiting ones the first `limit`.
  int64_t runnable() const { return static_cast<int64_t>(runnable_.size()); }
  int64_t startable() const { return static_cast<int64_t>(startable_.size()); }
  std::vector<SequenceView> RunnableViews() const;
  std::vector<SequenceView> StartableViews(int64_t limit) const;
  // Of the running ones that are in a step or paused.
  InStep OthersRunning() const;

  void Admit(uint64_t handle, absl::Time now);
  // Makes room for the first `tokens` tokens of a running sequence.
  absl::Status GrowPages(Sequence& sequence, int64_t tokens);
  void BeginStep(Sequence& sequence, uint64_t step_id);
  void EndStep(Sequence& sequence, int64_t rows);
  void AbortStep(Sequence& sequence);
  // Passes a token on; true if it was the answer's last one (which Finish then says).
  bool Emit(Sequence& sequence, const GeneratedToken& token, absl::Time now);
  // Keeps a sequence, its KV with it, out of steps (or of admission) until `until`.
  void Pause(Sequence& sequence, absl::Time until);
  // Frees the KV of a runnable sequence here and at its expert; it waits again, from `not_before`
  // on.
  void Preempt(Sequence& sequence, absl::Time not_before);
  // Ends a sequence in any state: OnFinish, KV freed here and at its expert. Rows of it that are in
  // flight are dropped when they come back, before they touch a page. The oldest queries that were
  // put off for lack of room at the same expert, and may fit now, may start again.
  void Finish(const std::shared_ptr<Sequence>& sequence, FinishReason reason,
              const absl::Status& status, absl::Time now);
  // Ends all that are past their deadline.
  void FinishExpired(absl::Time now);

  // The next time at which something here changes by itself: a deadline, or the end of a pause.
  absl::Time NextEvent() const;

  // Waiting ones that never ran.
  int64_t fresh() const { return fresh_; }
  int64_t preemptions() const { return preemptions_; }
  // Handles finished since the last call.
  std::vector<uint64_t> TakeFinished();
  // Whether a sequence was finished while in a step, since the last call.
  bool TakeFinishedInStep() { return std::exchange(finished_in_step_, false); }

 private:
  using Timers = std::set<std::pair<absl::Time, uint64_t>>;  // time, handle

  void FreeKv(Sequence& sequence);
  void EndPauses(const ExpertBinding& binding, int64_t freed_tokens);
  // Brings what is kept of the sequence up to date with its state, pages and tokens.
  void Update(Sequence& sequence);
  void Forget(const Sequence& sequence);
  int64_t PromisedPages(const Sequence& sequence) const;

  EngineObserver* const observer_;
  model::KvPages pages_;
  Table waiting_, running_;
  std::map<uint64_t, Sequence*> runnable_;   // of running_: in no step, not paused
  std::map<uint64_t, Sequence*> startable_;  // of waiting_: not paused, with a worker
  int64_t promised_pages_ = 0;               // of all running ones
  Timers deadlines_, pauses_;
  uint64_t last_link_id_ = 0;
  int64_t fresh_ = 0;
  int64_t preemptions_ = 0;
  std::vector<uint64_t> finished_;
  bool finished_in_step_ = false;
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_SEQUENCE_TABLE_H_
