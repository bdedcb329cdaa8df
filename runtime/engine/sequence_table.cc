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

absl::Time EarliestDeadline(const SequenceTable::Table& table) {
  absl::Time earliest = absl::InfiniteFuture();
  for (const auto& [handle, sequence] : table)
    earliest = std::min(earliest, sequence->query().deadline);
  return earliest;
}

}  // namespace

SequenceTable::SequenceTable(int64_t pages, int64_t page_tokens, EngineObserver* observer)
    : observer_(observer), pages_(pages, page_tokens) {}

void SequenceTable::Enqueue(std::shared_ptr<Sequence> sequence) {
  ++fresh_;
  const uint64_t handle = sequence->handle();
  waiting_.emplace(handle, std::move(sequence));
}

std::shared_ptr<Sequence> SequenceTable::Find(uint64_t handle) const {
  if (const auto it = running_.find(handle); it != running_.end()) return it->second;
  if (const auto it = waiting_.find(handle); it != waiting_.end()) return it->second;
  return nullptr;
}

std::vector<SequenceView> SequenceTable::RunningViews() const {
  std::vector<SequenceView> views;
  views.reserve(running_.size());
  for (const auto& [handle, sequence] : running_) views.push_back(ViewOf(*sequence));
  return views;
}

std::vector<SequenceView> SequenceTable::WaitingViews(absl::Time now, int64_t limit) const {
  std::vector<SequenceView> views;
  for (const auto& [handle, sequence] : waiting_) {
    if (static_cast<int64_t>(views.size()) >= limit) break;
    if (sequence->not_before <= now) views.push_back(ViewOf(*sequence));
  }
  return views;
}

void SequenceTable::Admit(uint64_t handle, absl::Time now) {
  auto node = waiting_.extract(handle);
  CCOE_CHECK(!node.empty());
  Sequence& sequence = *node.mapped();
  if (sequence.link_id() == 0) --fresh_;
  sequence.Admit(++last_link_id_, now);
  running_.insert(std::move(node));
}

absl::Status SequenceTable::GrowPages(Sequence& sequence, int64_t tokens) {
  return pages_.Grow(tokens, sequence.pages());
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
  sequence.not_before = not_before;
  waiting_.insert(std::move(node));
  ++preemptions_;
  if (observer_ != nullptr) observer_->OnPreemption();
}

void SequenceTable::Finish(const std::shared_ptr<Sequence>& sequence, FinishReason reason,
                    const absl::Status& status, absl::Time now) {
  const bool frees_room = sequence->swapped;
  FreeKv(*sequence);
  if (frees_room) EndPause(*sequence->binding());
  if (sequence->link_id() == 0) --fresh_;
  running_.erase(sequence->handle());
  waiting_.erase(sequence->handle());
  finished_.push_back(sequence->handle());
  if (observer_ != nullptr) observer_->OnFinish(reason, sequence->UsageAt(now));
  sequence->Finish(reason, status, now);
}

// There is room at this expert: the oldest query that was put off for lack of it need not wait any
// longer.
void SequenceTable::EndPause(const ExpertBinding& binding) {
  for (const auto& [handle, sequence] : waiting_) {
    if (sequence->exhausted_pauses == 0 || !sequence->SharesKv(binding)) continue;
    sequence->not_before = absl::InfinitePast();
    return;
  }
}

void SequenceTable::FinishExpired(absl::Time now) {
  std::vector<std::shared_ptr<Sequence>> expired;
  for (const Table* table : {&running_, &waiting_}) {
    for (const auto& [handle, sequence] : *table) {
      if (sequence->query().deadline <= now) expired.push_back(sequence);
    }
  }
  for (const auto& sequence : expired) {
    Finish(sequence, FinishReason::kCancelled,
           absl::DeadlineExceededError(absl::StrCat("query ", sequence->query().query_id,
                                                    ": deadline passed after ",
                                                    sequence->generated_tokens(), " tokens")),
           now);
  }
}

absl::Time SequenceTable::NextEvent(absl::Time now) const {
  absl::Time next = std::min(EarliestDeadline(waiting_), EarliestDeadline(running_));
  for (const auto& [handle, sequence] : waiting_) {
    if (sequence->not_before > now) next = std::min(next, sequence->not_before);
  }
  return next;
}

std::vector<uint64_t> SequenceTable::TakeFinished() { return std::exchange(finished_, {}); }

}  // namespace ccoe::engine
