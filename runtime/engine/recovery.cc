#include "runtime/engine/recovery.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/retry_hint.h"

namespace ccoe::engine {
namespace {

using exchange::SwapReason;

constexpr absl::Duration kSeekPause = absl::Milliseconds(50);

// Whether another worker may do, or this one later.
bool IsLost(SwapReason reason) {
  return reason == SwapReason::kLinkBroken || reason == SwapReason::kShuttingDown ||
         reason == SwapReason::kDeviceFailed || reason == SwapReason::kUnknownExpert;
}

// Doubles until the query makes progress: those that are not put off get the time to use the room.
absl::Duration NextPause(RecoveryState& recovery) { return PauseBefore(recovery.pauses++); }

}  // namespace

absl::Duration PauseBefore(int tries) { return absl::Milliseconds(5) * (1 << std::min(tries, 8)); }

bool MeansFull(SwapReason reason) {
  return reason == SwapReason::kNoPages || reason == SwapReason::kQueueFull ||
         reason == SwapReason::kLinkFull;
}

void Recovery::End(const Failure& failure, absl::Time now) {
  table_->Finish(failure.sequence, FinishReason::kError, failure.error, now);
}

bool Recovery::EndIfImpatient(const Failure& failure, absl::Time since, absl::Time now) {
  const SwapReason reason = exchange::ReasonOf(failure.error);
  const absl::Duration patience = MeansFull(reason) ? options_.room_patience
                                  : IsLost(reason)  ? options_.replica_patience
                                                    : absl::ZeroDuration();
  if (now - since < patience) return false;
  absl::Status error = failure.error;
  if (MeansFull(reason)) {
    error.SetPayload(kRetryAfterPayload,
                     absl::Cord(absl::StrCat(absl::ToInt64Milliseconds(options_.room_patience))));
  }
  End({failure.sequence, error}, now);
  return true;
}

void Recovery::PutOff(Sequence& sequence, absl::Time now) {
  table_->Preempt(sequence, now + NextPause(sequence.recovery));
}

void Recovery::TryStepAgain(const Failure& failure, absl::Time since, absl::Time now) {
  RecoveryState& recovery = failure.sequence->recovery;
  recovery.stalled_since = std::min(recovery.stalled_since, since);
  if (EndIfImpatient(failure, recovery.stalled_since, now)) return;
  table_->AbortStep(*failure.sequence);
  table_->Pause(*failure.sequence, now + NextPause(recovery));
}

void Recovery::ComputeAgain(const Failure& failure, absl::Time now) {
  if (++failure.sequence->recovery.lost_kv > kMaxLostKvRetries) return End(failure, now);
  table_->AbortStep(*failure.sequence);
  table_->Preempt(*failure.sequence, absl::InfinitePast());
}

void Recovery::GoElsewhere(const Failure& failure, absl::Time now) {
  Sequence& sequence = *failure.sequence;
  RecoveryState& recovery = sequence.recovery;
  recovery.no_replica_since = std::min(recovery.no_replica_since, now);
  recovery.why = failure.error;
  if (++recovery.lost_workers > kMaxLostWorkers ||
      now - recovery.no_replica_since >= options_.replica_patience) {
    return GiveUp(failure.sequence,
                  absl::StrCat(recovery.lost_workers, " were lost before its next token"), now);
  }
  recovery.needs_replica = true;
  recovery.avoid.push_back(sequence.binding()->link);
  table_->AbortStep(sequence);
  table_->Preempt(sequence, absl::InfinitePast());
  if (!Seek(failure.sequence, now)) seeking_.insert(sequence.handle());
}

void Recovery::GiveUp(const std::shared_ptr<Sequence>& sequence, absl::string_view last,
                      absl::Time now) {
  const RecoveryState& recovery = sequence->recovery;
  const absl::Duration waited = now - recovery.no_replica_since;
  std::string text = absl::StrCat(recovery.why.message(), "; no other worker took over");
  if (waited > absl::ZeroDuration()) absl::StrAppend(&text, " in ", absl::FormatDuration(waited));
  End({sequence, absl::Status(recovery.why.code(), absl::StrCat(text, ": ", last))}, now);
}

bool Recovery::Seek(const std::shared_ptr<Sequence>& sequence, absl::Time now) {
  RecoveryState& recovery = sequence->recovery;
  absl::StatusOr<std::shared_ptr<const ExpertBinding>> replica =
      directory_ == nullptr ? absl::UnavailableError("no other worker holds it")
                            : directory_->FindReplica(*sequence->binding(), recovery.avoid);
  if (replica.ok()) {
    sequence->Rebind(*std::move(replica));
    recovery.needs_replica = false;
    if (options_.observer != nullptr) options_.observer->OnFailover();
    return true;
  }
  if (directory_ == nullptr || now - recovery.no_replica_since >= options_.replica_patience) {
    GiveUp(sequence, replica.status().message(), now);
    return true;
  }
  // What failed before may be sound again by then.
  recovery.avoid.clear();
  table_->Pause(*sequence, now + kSeekPause);
  return false;
}

void Recovery::SeekReplicas(absl::Time now) {
  for (auto it = seeking_.begin(); it != seeking_.end();) {
    const std::shared_ptr<Sequence> sequence = table_->Find(*it);
    const bool waits = sequence != nullptr && sequence->recovery.needs_replica;
    if (waits && (sequence->not_before > now || !Seek(sequence, now))) {
      ++it;
    } else {
      it = seeking_.erase(it);
    }
  }
}

// A query that was alone in having no room: the youngest query of its expert, or itself, gives way.
void Recovery::MakeRoomFor(const Failure& alone, absl::Time now) {
  const std::shared_ptr<Sequence>& sequence = alone.sequence;
  std::shared_ptr<Sequence> youngest = sequence;
  bool others = false;
  for (const auto& [handle, other] : table_->running()) {
    if (other == sequence || !other->SharesKv(*sequence->binding())) continue;
    others = true;
    if (handle > youngest->handle() && other->state() == SequenceState::kRunnable) youngest = other;
  }
  RecoveryState& recovery = sequence->recovery;
  recovery.no_room_since = std::min(recovery.no_room_since, now);
  if (!others && EndIfImpatient(alone, recovery.no_room_since, now)) return;
  table_->AbortStep(*sequence);
  PutOff(*youngest, now);
}

void Recovery::MakeRoom(const std::vector<Failure>& group, absl::Time now) {
  if (group.empty()) return;
  if (group.size() == 1) return MakeRoomFor(group[0], now);
  for (const Failure& failure : group) table_->AbortStep(*failure.sequence);
  for (size_t i = group.size(); i-- > group.size() / 2;) {
    Sequence& sequence = *group[i].sequence;
    // KV that is there is given up for one query at a time: that may be enough.
    if (i + 1 < group.size() && sequence.computed_tokens() > 0) break;
    PutOff(sequence, now);
  }
}

void Recovery::Recover(std::vector<Failure> failures, absl::Time now) {
  std::sort(failures.begin(), failures.end(), [](const Failure& a, const Failure& b) {
    return a.sequence->handle() < b.sequence->handle();
  });
  std::vector<Failure> without_room;  // oldest first
  for (Failure& failure : failures) {
    if (failure.sequence->finished()) continue;
    switch (exchange::ReasonOf(failure.error)) {
      case SwapReason::kNoPages:
        without_room.push_back(std::move(failure));
        break;
      case SwapReason::kQueueFull:
      case SwapReason::kLinkFull:
        TryStepAgain(failure, now, now);
        break;
      case SwapReason::kKvLost:
      case SwapReason::kCancelled:
        ComputeAgain(failure, now);
        break;
      case SwapReason::kLinkBroken:
      case SwapReason::kShuttingDown:
      case SwapReason::kDeviceFailed:
      case SwapReason::kUnknownExpert:
        GoElsewhere(failure, now);
        break;
      case SwapReason::kNone:
      case SwapReason::kTooLong:
      case SwapReason::kInvalid:
      case SwapReason::kInternal:
        End(failure, now);
        break;
    }
  }
  MakeRoom(without_room, now);
}

}  // namespace ccoe::engine
