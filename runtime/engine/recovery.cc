// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/recovery.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/retry_hint.h"

namespace ccoe::engine {
namespace {

using exchange::SwapReason;

constexpr absl::Duration kSeekPause = absl::Milliseconds(50);
// After PauseBefore(lost workers + this) a worker that failed may be asked again: 160 ms, doubling.
constexpr int kForgive = 4;
// A worker that is lost takes so long to come back, or longer.
constexpr absl::Duration kRestartHint = absl::Seconds(1);

// Whether another worker may do, or this one later.
bool IsLost(SwapReason reason) {
  return reason == SwapReason::kLinkBroken || reason == SwapReason::kShuttingDown ||
         reason == SwapReason::kDeviceFailed || reason == SwapReason::kUnknownExpert;
}

}  // namespace

absl::Duration PauseBefore(int tries) { return absl::Milliseconds(5) * (1 << std::min(tries, 8)); }

bool MeansFull(SwapReason reason) {
  return reason == SwapReason::kNoPages || reason == SwapReason::kQueueFull ||
         reason == SwapReason::kLinkFull;
}

void Recovery::End(const Failure& failure, absl::Time now) {
  table_->Finish(failure.sequence, FinishReason::kError, failure.error, now);
}

bool Recovery::EndIfImpatient(const Failure& failure, absl::Duration waited, absl::Time now) {
  const SwapReason reason = exchange::ReasonOf(failure.error);
  const absl::Duration patience = MeansFull(reason) ? options_.room_patience
                                  : IsLost(reason)  ? options_.replica_patience
                                                    : absl::ZeroDuration();
  if (waited < patience) return false;
  End({failure.sequence,
       WithRetryHint(failure.error, MeansFull(reason) ? options_.room_patience : kRestartHint)},
      now);
  return true;
}

void Recovery::PutOff(Sequence& sequence, absl::Duration pause, absl::Time now) {
  LinkList& avoid = sequence.recovery.avoid;
  const auto& link = sequence.binding()->link;
  if (avoid.empty() || avoid.back().lock() != link) avoid.push_back(link);
  table_->Preempt(sequence, now + pause);
}

void Recovery::TryStepAgain(const Failure& failure, absl::Duration waited, absl::Time now) {
  Sequence& sequence = *failure.sequence;
  RecoveryState& recovery = sequence.recovery;
  recovery.stalled += waited;
  if (EndIfImpatient(failure, recovery.stalled, now)) return;
  const absl::Duration pause = PauseBefore(recovery.pauses++);
  recovery.stalled += pause;
  table_->AbortStep(sequence);
  if (failure.at_expert && sequence.computed_tokens() == 0) {
    PutOff(sequence, pause, now);
  } else {
    table_->Pause(sequence, now + pause);
  }
}

void Recovery::ComputeAgain(const Failure& failure, absl::Time now) {
  if (++failure.sequence->recovery.lost_kv > kMaxLostKvRetries) return End(failure, now);
  table_->AbortStep(*failure.sequence);
  table_->Preempt(*failure.sequence, absl::InfinitePast());
}

void Recovery::GoElsewhere(const Failure& failure, absl::Time now) {
  Sequence& sequence = *failure.sequence;
  RecoveryState& recovery = sequence.recovery;
  recovery.why = failure.error;
  if (++recovery.lost_workers > kMaxLostWorkers) {
    return GiveUp(failure.sequence,
                  absl::StrCat(recovery.lost_workers, " were lost before its next token"), now);
  }
  recovery.avoid.push_back(sequence.binding()->link);
  table_->AbortStep(sequence);
  table_->Preempt(sequence, absl::InfinitePast());
  AwaitWorker(failure.sequence, now);
}

void Recovery::AwaitWorker(const std::shared_ptr<Sequence>& sequence, absl::Time now) {
  sequence->recovery.needs_replica = true;
  sequence->recovery.seeking_since = now;
  // They must not fill the queue that all experts' queries share.
  const auto most = std::max<size_t>(1, static_cast<size_t>(options_.max_waiting) / 4);
  if (sequence->recovery.why.ok() && seeking_.size() >= most) {
    return GiveUp(sequence,
                  absl::StrCat("no worker holds expert ", sequence->binding()->expert.ToString(),
                               " now, and ", seeking_.size(), " queries wait for one already"),
                  now);
  }
  Missing missing;
  if (!Seek(sequence, missing, now)) seeking_.insert(sequence->handle());
}

void Recovery::GiveUp(const std::shared_ptr<Sequence>& sequence, absl::string_view last,
                      absl::Time now) {
  const RecoveryState& recovery = sequence->recovery;
  const std::string waited =
      recovery.without_worker > absl::ZeroDuration()
          ? absl::StrCat(" in ", absl::FormatDuration(recovery.without_worker))
          : "";
  const absl::Status error =
      recovery.why.ok()
          ? absl::UnavailableError(absl::StrCat(last, "; no worker came", waited))
          : absl::Status(recovery.why.code(),
                         absl::StrCat(recovery.why.message(), "; no other worker took over", waited,
                                      ": ", last));
  End({sequence, WithRetryHint(error, kRestartHint)}, now);
}

absl::StatusOr<std::shared_ptr<const ExpertBinding>> Recovery::FindWorker(const Sequence& sequence,
                                                                          const LinkList& avoid,
                                                                          Missing& missing) {
  if (directory_ == nullptr) return absl::UnavailableError("no other worker holds it");
  const ExpertBinding& bound = *sequence.binding();
  Missing::key_type key = {bound.expert, bound.weights_digest, {}};
  for (const auto& link : avoid) std::get<2>(key).push_back(link.lock().get());
  if (const auto known = missing.find(key); known != missing.end()) return known->second;
  auto found = directory_->FindReplica(bound, avoid);
  if (!found.ok()) missing.emplace(std::move(key), found.status());
  return found;
}

bool Recovery::Seek(const std::shared_ptr<Sequence>& sequence, Missing& missing, absl::Time now) {
  RecoveryState& recovery = sequence->recovery;
  const absl::Duration seeks = now - recovery.seeking_since;
  // A worker that did not have the expert may have it by now.
  const bool forgives = seeks >= PauseBefore(recovery.lost_workers + kForgive);
  auto worker = FindWorker(*sequence, forgives ? LinkList() : recovery.avoid, missing);
  const bool hopeless = !worker.ok() && !absl::IsUnavailable(worker.status());
  const bool ends = worker.ok() || hopeless || directory_ == nullptr ||
                    recovery.without_worker + seeks >= options_.replica_patience;
  if (!ends) {
    table_->Pause(*sequence, now + kSeekPause);
    return false;
  }
  recovery.without_worker += seeks;
  recovery.needs_replica = false;
  if (hopeless) {
    End({sequence, worker.status()}, now);
    return true;
  }
  if (!worker.ok()) {
    GiveUp(sequence, worker.status().message(), now);
    return true;
  }
  if (!recovery.why.ok() && (*worker)->link != sequence->binding()->link) {
    sequence->CountFailover();
    if (options_.observer != nullptr) options_.observer->OnFailover();
  }
  sequence->Rebind(*std::move(worker));
  table_->Pause(*sequence, absl::InfinitePast());
  return true;
}

void Recovery::SeekReplicas(absl::Time now) {
  // A clock that was set back must not put the next look off.
  if (seeking_.empty() || (now < next_seek_ && next_seek_ - now <= kSeekPause)) return;
  next_seek_ = now + kSeekPause;
  Missing missing;
  for (auto it = seeking_.begin(); it != seeking_.end();) {
    const std::shared_ptr<Sequence> sequence = table_->Find(*it);
    const bool waits = sequence != nullptr && sequence->recovery.needs_replica;
    it = waits && !Seek(sequence, missing, now) ? std::next(it) : seeking_.erase(it);
  }
}

void Recovery::ChooseWorker(Sequence& sequence) {
  if (directory_ == nullptr || sequence.binding() == nullptr) return;
  const ExpertBinding& bound = *sequence.binding();
  absl::StatusOr<std::shared_ptr<const ExpertBinding>> best =
      directory_->FindReplica(bound, sequence.recovery.avoid);
  if (!best.ok() || (*best)->numerics != bound.numerics) {
    return sequence.recovery.avoid.clear();  // this one or none
  }
  if ((*best)->link != bound.link) sequence.Rebind(*std::move(best));
}

bool Recovery::OursHoldKv(const Sequence& sequence) const {
  return std::any_of(table_->running().begin(), table_->running().end(), [&](const auto& entry) {
    const Sequence& other = *entry.second;
    return &other != &sequence && other.swapped && other.computed_tokens() > 0 &&
           other.SharesKv(*sequence.binding());
  });
}

void Recovery::PutOffForRoom(const Failure& failure, const std::shared_ptr<Sequence>& who,
                             absl::Time now) {
  absl::Duration& short_of_kv = who->recovery.short_of_kv;
  // Ours make room sooner or later; whether others do nobody here knows.
  const bool counts = !OursHoldKv(*who);
  if (counts && EndIfImpatient({who, failure.error}, short_of_kv, now)) return;
  const absl::Duration pause = PauseBefore(who->recovery.pauses++);
  if (counts) short_of_kv += pause;
  PutOff(*who, pause, now);
}

// A query that was alone in having no room: the youngest query of its expert, or itself, gives way.
void Recovery::MakeRoomFor(const Failure& alone, absl::Time now) {
  const std::shared_ptr<Sequence>& sequence = alone.sequence;
  std::shared_ptr<Sequence> youngest = sequence;
  for (const auto& [handle, other] : table_->running()) {
    if (other == sequence || !other->SharesKv(*sequence->binding())) continue;
    if (handle > youngest->handle() && other->state() == SequenceState::kRunnable) youngest = other;
  }
  table_->AbortStep(*sequence);
  PutOffForRoom(alone, youngest, now);
}

void Recovery::MakeRoom(const std::vector<Failure>& group, absl::Time now) {
  if (group.empty()) return;
  if (group.size() == 1) return MakeRoomFor(group[0], now);
  for (const Failure& failure : group) table_->AbortStep(*failure.sequence);
  for (size_t i = group.size(); i-- > group.size() / 2;) {
    Sequence& sequence = *group[i].sequence;
    // KV that is there is given up for one query at a time: that may be enough.
    if (i + 1 < group.size() && sequence.computed_tokens() > 0) break;
    PutOffForRoom(group[i], group[i].sequence, now);
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
        TryStepAgain({failure.sequence, failure.error, /*at_expert=*/true}, absl::ZeroDuration(),
                     now);
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
