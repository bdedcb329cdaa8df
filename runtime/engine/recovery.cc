#include "runtime/engine/recovery.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "runtime/base/status_macros.h"

namespace ccoe::engine {
namespace {

using Group = std::vector<std::shared_ptr<Sequence>>;

constexpr absl::Duration kFirstPause = absl::Milliseconds(5);

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

bool UsesSameKv(const Sequence& sequence, const ExpertBinding& binding) {
  const ExpertBinding* other = sequence.binding();
  return other != nullptr && other->link == binding.link && other->expert == binding.expert;
}

absl::Time PauseOf(const Sequence& sequence, absl::Time now) {
  return now + kFirstPause * (1 << std::min(sequence.exhausted_retries, kMaxExhaustedRetries));
}

// A query that was alone in its swap.
void RetryAlone(const std::shared_ptr<Sequence>& sequence, const SwapFlight& flight,
                const absl::Status& error, Roster& roster, absl::Time now) {
  std::shared_ptr<Sequence> youngest = sequence;
  bool others = false;
  for (const auto& [handle, other] : roster.running()) {
    if (other == sequence || !UsesSameKv(*other, *flight.binding)) continue;
    others = true;
    if (handle > youngest->handle() && other->state() == SequenceState::kRunnable) youngest = other;
  }
  if (!others && ++sequence->exhausted_retries > kMaxExhaustedRetries) {
    roster.Finish(sequence, FinishReason::kError, error, now);
    return;
  }
  roster.Preempt(*youngest, PauseOf(*youngest, now));
}

void RetryExhausted(const Group& group, const SwapFlight& flight, const absl::Status& error,
                    Roster& roster, absl::Time now) {
  for (const auto& sequence : group) sequence->AbortStep();
  if (group.size() == 1) {
    RetryAlone(group[0], flight, error, roster, now);
    return;
  }
  for (size_t i = group.size(); i-- > group.size() / 2;)
    roster.Preempt(*group[i], PauseOf(*group[i], now));
}

void RecomputeLost(const Group& group, const absl::Status& error, Roster& roster, absl::Time now) {
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

void RecoverFromSwapError(SwapFlight& flight, const absl::Status& status, Roster& roster,
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
