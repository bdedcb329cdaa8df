#include "runtime/engine/recovery.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "runtime/base/status_macros.h"

namespace ccoe::engine {
namespace {

using Group = std::vector<std::shared_ptr<Sequence>>;

constexpr absl::Duration kFirstPause = absl::Milliseconds(5);
constexpr int kMaxPauseDoublings = 8;  // 1.28 s

// The flight's living sequences, oldest first.
Group Living(const SwapFlight& flight) {
  Group group;
  for (const StepEntry& entry : flight.entries) {
    if (entry.alive()) group.push_back(entry.sequence);
  }
  std::sort(group.begin(), group.end(),
            [](const auto& a, const auto& b) { return a->handle() < b->handle(); });
  return group;
}

// The pause doubles until the query makes progress: those that are not put off get the time to use
// the room.
void PutOff(Sequence& sequence, SequenceTable& roster, absl::Time now) {
  const absl::Duration pause =
      kFirstPause * (1 << std::min(sequence.exhausted_pauses, kMaxPauseDoublings));
  ++sequence.exhausted_pauses;
  roster.Preempt(sequence, now + pause);
}

// A query that was alone in its swap.
void RetryAlone(const std::shared_ptr<Sequence>& sequence, const SwapFlight& flight,
                const absl::Status& error, SequenceTable& roster, absl::Time now) {
  std::shared_ptr<Sequence> youngest = sequence;
  bool others = false;
  for (const auto& [handle, other] : roster.running()) {
    if (other == sequence || !other->SharesKv(*flight.binding)) continue;
    others = true;
    if (handle > youngest->handle() && other->state() == SequenceState::kRunnable) youngest = other;
  }
  if (!others && ++sequence->exhausted_retries > kMaxExhaustedRetries) {
    roster.Finish(sequence, FinishReason::kError, error, now);
    return;
  }
  PutOff(*youngest, roster, now);
}

void RetryExhausted(const Group& group, const SwapFlight& flight, const absl::Status& error,
                    SequenceTable& roster, absl::Time now) {
  for (const auto& sequence : group) sequence->AbortStep();
  if (group.size() == 1) {
    RetryAlone(group[0], flight, error, roster, now);
    return;
  }
  for (size_t i = group.size(); i-- > group.size() / 2;) {
    // KV that is there is given up for one query at a time: that may be enough.
    if (i + 1 < group.size() && group[i]->computed_tokens() > 0) break;
    PutOff(*group[i], roster, now);
  }
}

void RecomputeLost(const Group& group, const absl::Status& error, SequenceTable& roster, absl::Time now) {
  for (const auto& sequence : group) {
    sequence->AbortStep();
    if (++sequence->lost_kv_retries > kMaxLostKvRetries) {
      roster.Finish(sequence, FinishReason::kError, error, now);
    } else {
      roster.Preempt(*sequence, absl::InfinitePast());
    }
  }
}

}  // namespace

void RecoverFromSwapError(SwapFlight& flight, const absl::Status& status, SequenceTable& roster,
                          absl::Time now) {
  const Group group = Living(flight);
  if (group.empty()) return;
  const absl::Status error = Annotate(status, flight.Describe());
  switch (status.code()) {
    case absl::StatusCode::kResourceExhausted:
      return RetryExhausted(group, flight, error, roster, now);
    case absl::StatusCode::kFailedPrecondition:
      return RecomputeLost(group, error, roster, now);
    default:
      for (const auto& sequence : group) roster.Finish(sequence, FinishReason::kError, error, now);
  }
}

}  // namespace ccoe::engine
