// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/sequence_table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace ccoe::engine {
namespace {

SequenceView ViewOf(const Sequence& sequence) {
  SequenceView view;
  view.handle = sequence.handle();
  view.known_tokens = sequence.known_tokens();
  view.computed_tokens = sequence.computed_tokens();
  view.held_pages = static_cast<int64_t>(sequence.pages().size());
  view.last_step = sequence.last_step();
  view.runnable = sequence.state() == SequenceState::kRunnable;
  return view;
}

void Hold(std::map<uint64_t, Sequence*>& set, Sequence& sequence, bool member) {
  if (member) {
    set.emplace(sequence.handle(), &sequence);
  } else {
    set.erase(sequence.handle());
  }
}

}  // namespace

SequenceTable::SequenceTable(int64_t pages, int64_t page_tokens, EngineObserver* observer)
    : observer_(observer), pages_(pages, page_tokens) {}

int64_t SequenceTable::PromisedPages(const Sequence& sequence) const {
  return std::max<int64_t>(
      pages_.PagesFor(sequence.known_tokens() + 1) - static_cast<int64_t>(sequence.pages().size()),
      0);
}

void SequenceTable::Update(Sequence& sequence) {
  const bool paused = pauses_.count({sequence.not_before, sequence.handle()}) > 0;
  const bool waits = sequence.state() == SequenceState::kWaiting;
  Hold(runnable_, sequence, sequence.state() == SequenceState::kRunnable && !paused);
  Hold(startable_, sequence, waits && !paused && !sequence.recovery.needs_replica);
  const int64_t promised = waits ? 0 : PromisedPages(sequence);
  promised_pages_ += promised - std::exchange(sequence.promised_pages, promised);
}

void SequenceTable::Forget(const Sequence& sequence) {
  runnable_.erase(sequence.handle());
  startable_.erase(sequence.handle());
  deadlines_.erase({sequence.query().deadline, sequence.handle()});
  pauses_.erase({sequence.not_before, sequence.handle()});
  promised_pages_ -= sequence.promised_pages;
}

void SequenceTable::Enqueue(std::shared_ptr<Sequence> sequence) {
  ++fresh_;
  const uint64_t handle = sequence->handle();
  const absl::Time deadline = sequence->query().deadline;
  if (deadline != absl::InfiniteFuture()) deadlines_.emplace(deadline, handle);
  Update(*waiting_.emplace(handle, std::move(sequence)).first->second);
}

std::shared_ptr<Sequence> SequenceTable::Find(uint64_t handle) const {
  if (const auto it = running_.find(handle); it != running_.end()) return it->second;
  if (const auto it = waiting_.find(handle); it != waiting_.end()) return it->second;
  return nullptr;
}

bool SequenceTable::Wake(absl::Time now) {
  bool any = false;
  while (!pauses_.empty() && pauses_.begin()->first <= now) {
    any = true;
    const uint64_t handle = pauses_.begin()->second;
    pauses_.erase(pauses_.begin());
    Update(*Find(handle));
  }
  return any;
}

std::vector<SequenceView> SequenceTable::RunnableViews() const {
  std::vector<SequenceView> views;
  views.reserve(runnable_.size());
  for (const auto& [handle, sequence] : runnable_) views.push_back(ViewOf(*sequence));
  return views;
}

std::vector<SequenceView> SequenceTable::StartableViews(int64_t limit) const {
  std::vector<SequenceView> views;
  for (const auto& [handle, sequence] : startable_) {
    if (static_cast<int64_t>(views.size()) >= limit) break;
    views.push_back(ViewOf(*sequence));
  }
  return views;
}

InStep SequenceTable::OthersRunning() const {
  InStep others;
  others.sequences = static_cast<int64_t>(running_.size() - runnable_.size());
  others.promised_pages = promised_pages_;
  for (const auto& [handle, sequence] : runnable_) {
    others.promised_pages -= sequence->promised_pages;
  }
  return others;
}

void SequenceTable::Admit(uint64_t handle, absl::Time now) {
  auto node = waiting_.extract(handle);
  CCOE_CHECK(!node.empty());
  Sequence& sequence = *node.mapped();
  if (sequence.link_id() == 0) --fresh_;
  sequence.Admit(++last_link_id_, now);
  running_.insert(std::move(node));
  Update(sequence);
}

absl::Status SequenceTable::GrowPages(Sequence& sequence, int64_t tokens) {
  absl::Status grown = pages_.Grow(tokens, sequence.pages());
  Update(sequence);
  return grown;
}

void SequenceTable::BeginStep(Sequence& sequence, uint64_t step_id) {
  sequence.BeginStep(step_id);
  Update(sequence);
}

void SequenceTable::EndStep(Sequence& sequence, int64_t rows) {
  sequence.EndStep(rows);
  Update(sequence);
}

void SequenceTable::AbortStep(Sequence& sequence) {
  sequence.AbortStep();
  Update(sequence);
}

bool SequenceTable::Emit(Sequence& sequence, const GeneratedToken& token, absl::Time now) {
  const bool last = sequence.Emit(token, now);
  Update(sequence);
  return last;
}

void SequenceTable::Pause(Sequence& sequence, absl::Time until) {
  pauses_.erase({sequence.not_before, sequence.handle()});
  sequence.not_before = until;
  if (until > absl::InfinitePast()) pauses_.emplace(until, sequence.handle());
  Update(sequence);
}

void SequenceTable::FreeKv(Sequence& sequence) {
  pages_.Free(sequence.pages());
  if (sequence.swapped) sequence.binding()->link->ReleaseSequence(sequence.link_id());
  sequence.swapped = false;
}

void SequenceTable::Preempt(Sequence& sequence, absl::Time not_before) {
  auto node = running_.extract(sequence.handle());
  CCOE_CHECK(!node.empty());
  FreeKv(sequence);
  sequence.Preempt();
  waiting_.insert(std::move(node));
  Pause(sequence, not_before);
  ++preemptions_;
  if (observer_ != nullptr) observer_->OnPreemption();
}

void SequenceTable::Finish(const std::shared_ptr<Sequence>& sequence, FinishReason reason,
                           const absl::Status& status, absl::Time now) {
  // Of its first chunk the pages are taken, and nothing is computed yet.
  const int64_t freed_tokens =
      sequence->swapped ? std::max<int64_t>(1, sequence->computed_tokens()) : 0;
  finished_in_step_ = finished_in_step_ || sequence->state() == SequenceState::kInStep;
  FreeKv(*sequence);
  if (freed_tokens > 0) EndPauses(*sequence->binding(), freed_tokens);
  if (sequence->link_id() == 0) --fresh_;
  Forget(*sequence);
  running_.erase(sequence->handle());
  waiting_.erase(sequence->handle());
  finished_.push_back(sequence->handle());
  if (observer_ != nullptr) observer_->OnFinish(reason, sequence->UsageAt(now));
  sequence->Finish(reason, status, now);
}

// There is room for so many tokens at this expert: the oldest queries that were put off for lack of
// it, and may fit, need not wait any longer.
void SequenceTable::EndPauses(const ExpertBinding& binding, int64_t freed_tokens) {
  if (pauses_.empty()) return;
  int64_t left = freed_tokens;
  for (const auto& [handle, sequence] : waiting_) {
    RecoveryState& recovery = sequence->recovery;
    if (recovery.pauses == 0 || recovery.needs_replica || !sequence->SharesKv(binding)) continue;
    // What the oldest lacks may be less than it knows.
    if (left < freed_tokens && left < sequence->known_tokens()) return;
    recovery.avoid.clear();  // here is room
    Pause(*sequence, absl::InfinitePast());
    left -= sequence->known_tokens();
  }
}

void SequenceTable::FinishExpired(absl::Time now) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const std::shared_ptr<Sequence> sequence = Find(deadlines_.begin()->second);
    Finish(sequence, FinishReason::kCancelled,
           absl::DeadlineExceededError(absl::StrCat("query ", sequence->query().query_id,
                                                    ": deadline passed after ",
                                                    sequence->generated_tokens(), " tokens")),
           now);
  }
}

absl::Time SequenceTable::NextEvent() const {
  absl::Time next = absl::InfiniteFuture();
  if (!deadlines_.empty()) next = deadlines_.begin()->first;
  if (!pauses_.empty()) next = std::min(next, pauses_.begin()->first);
  return next;
}

std::vector<uint64_t> SequenceTable::TakeFinished() { return std::exchange(finished_, {}); }

}  // namespace ccoe::engine
