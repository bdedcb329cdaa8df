// All sequences of an engine that are not finished: who waits, who runs, and the KV pages of those
// that run.
#ifndef CCOE_RUNTIME_ENGINE_SEQUENCE_TABLE_H_
#define CCOE_RUNTIME_ENGINE_SEQUENCE_TABLE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "runtime/engine/observer.h"
#include "runtime/engine/scheduler.h"
#include "runtime/engine/sequence.h"
#include "runtime/model/kv_pages.h"

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

  // For the scheduler. Waiting: the first `limit` of those that may start by now.
  std::vector<SequenceView> RunningViews() const;
  std::vector<SequenceView> WaitingViews(absl::Time now, int64_t limit) const;

  void Admit(uint64_t handle, absl::Time now);
  // Makes room for the first `tokens` tokens of a running sequence.
  absl::Status GrowPages(Sequence& sequence, int64_t tokens);
  // Frees the KV of a runnable sequence here and at its expert; it waits again, from `not_before`
  // on.
  void Preempt(Sequence& sequence, absl::Time not_before);
  // Ends a sequence in any state: OnFinish, KV freed here and at its expert. Rows of it that are in
  // flight are dropped when they come back, before they touch a page. The oldest query that was put
  // off for lack of room at the same expert may start again.
  void Finish(const std::shared_ptr<Sequence>& sequence, FinishReason reason,
              const absl::Status& status, absl::Time now);
  // Ends all that are past their deadline.
  void FinishExpired(absl::Time now);

  // The next time at which something here changes by itself: a deadline, or a waiting one that may
  // start.
  absl::Time NextEvent(absl::Time now) const;

  // Waiting ones that never ran.
  int64_t fresh() const { return fresh_; }
  int64_t preemptions() const { return preemptions_; }
  // Handles finished since the last call.
  std::vector<uint64_t> TakeFinished();

 private:
  void FreeKv(Sequence& sequence);
  void EndPause(const ExpertBinding& binding);

  EngineObserver* const observer_;
  model::KvPages pages_;
  Table waiting_, running_;
  uint64_t last_link_id_ = 0;
  int64_t fresh_ = 0;
  int64_t preemptions_ = 0;
  std::vector<uint64_t> finished_;
};

}  // namespace ccoe::engine

#endif  // CCOE_RUNTIME_ENGINE_SEQUENCE_TABLE_H_
