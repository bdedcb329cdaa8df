// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/scheduler.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace ccoe::engine {
namespace {

int64_t Pending(const SequenceView& view) { return view.known_tokens - view.computed_tokens; }

class Planner {
 public:
  Planner(const SchedulerLimits& limits, absl::Span<const SequenceView> running, int64_t free_pages,
          const InStep& others)
      : limits_(limits),
        running_(running),
        others_(others),
        used_(running.size(), false),
        all_free_pages_(free_pages),
        free_pages_(free_pages) {}

  void PlanDecode();
  void PlanPrefill();
  void Admit(absl::Span<const SequenceView> waiting);
  StepPlan Take() { return std::move(plan_); }

 private:
  int64_t PagesFor(int64_t tokens) const {
    return (tokens + limits_.page_tokens - 1) / limits_.page_tokens;
  }
  bool IsFree(size_t i) const { return running_[i].runnable && !used_[i]; }
  void Plan(size_t i, int64_t rows);
  bool FindPages(const SequenceView& view, int64_t needed);
  bool IsVictim(size_t i, uint64_t handle) const;
  void AddRows(const SequenceView& view, int64_t rows);
  int64_t PromisedPages() const;

  const SchedulerLimits& limits_;
  const absl::Span<const SequenceView> running_;
  const InStep& others_;
  std::vector<bool> used_;  // planned or preempted
  const int64_t all_free_pages_;
  int64_t free_pages_;
  int64_t rows_ = 0;
  bool short_of_pages_ = false;
  StepPlan plan_;
};

void Planner::AddRows(const SequenceView& view, int64_t rows) {
  plan_.rows.push_back({view.handle, view.computed_tokens, rows});
  rows_ += rows;
}

// Whether sequence i may be preempted for sequence `handle`.
bool Planner::IsVictim(size_t i, uint64_t handle) const {
  return running_[i].handle > handle && IsFree(i) && running_[i].held_pages > 0;
}

bool Planner::FindPages(const SequenceView& view, int64_t needed) {
  if (needed <= free_pages_) {
    free_pages_ -= needed;
    return true;
  }
  short_of_pages_ = true;
  int64_t available = free_pages_;
  for (size_t i = 0; i < running_.size(); ++i) {
    if (IsVictim(i, view.handle)) available += running_[i].held_pages;
  }
  if (available < needed) return false;
  for (size_t i = running_.size(); free_pages_ < needed && i-- > 0;) {
    if (!IsVictim(i, view.handle)) continue;
    used_[i] = true;
    free_pages_ += running_[i].held_pages;
    plan_.preempted.push_back(running_[i].handle);
  }
  free_pages_ -= needed;
  return true;
}

void Planner::Plan(size_t i, int64_t rows) {
  const SequenceView& view = running_[i];
  const int64_t pages = PagesFor(view.computed_tokens + rows) - view.held_pages;
  if (!FindPages(view, std::max<int64_t>(pages, 0))) return;
  used_[i] = true;
  AddRows(view, rows);
}

void Planner::PlanDecode() {
  std::vector<size_t> decoding;
  bool prefill = false;
  for (size_t i = 0; i < running_.size(); ++i) {
    if (!IsFree(i)) continue;
    if (Pending(running_[i]) == 1) decoding.push_back(i);
    prefill = prefill || Pending(running_[i]) > 1;
  }
  std::sort(decoding.begin(), decoding.end(), [this](size_t a, size_t b) {
    return std::tie(running_[a].last_step, running_[a].handle) <
           std::tie(running_[b].last_step, running_[b].handle);
  });
  const int64_t budget = limits_.max_step_tokens - (prefill ? limits_.max_step_tokens / 4 : 0);
  for (size_t i : decoding) {
    if (rows_ >= budget) break;
    if (!used_[i]) Plan(i, 1);  // an older one may have preempted it
  }
}

void Planner::PlanPrefill() {
  for (size_t i = 0; i < running_.size() && rows_ < limits_.max_step_tokens; ++i) {
    if (!IsFree(i) || Pending(running_[i]) <= 1) continue;
    Plan(i, std::min({Pending(running_[i]), limits_.max_prefill_chunk,
                      limits_.max_step_tokens - rows_}));
  }
}

// Pages the running ones will still take for the tokens they know, and the next one.
int64_t Planner::PromisedPages() const {
  int64_t pages = others_.promised_pages;
  for (const SequenceView& view : running_) {
    pages += std::max<int64_t>(PagesFor(view.known_tokens + 1) - view.held_pages, 0);
  }
  return pages;
}

void Planner::Admit(absl::Span<const SequenceView> waiting) {
  if (short_of_pages_) return;  // also: nothing was preempted
  const int64_t running = static_cast<int64_t>(running_.size()) + others_.sequences;
  int64_t room = all_free_pages_ - PromisedPages();
  for (const SequenceView& view : waiting) {
    const bool alone = running == 0 && plan_.admitted.empty();
    if (running + static_cast<int64_t>(plan_.admitted.size()) >= limits_.max_running) return;
    if (rows_ >= limits_.max_step_tokens) return;
    const int64_t needed = PagesFor(view.known_tokens + 1);
    if (needed > room && !alone) return;
    const int64_t rows =
        std::min({Pending(view), limits_.max_prefill_chunk, limits_.max_step_tokens - rows_});
    if (PagesFor(rows) > free_pages_) return;
    room -= needed;
    free_pages_ -= PagesFor(rows);
    plan_.admitted.push_back(view.handle);
    AddRows(view, rows);
  }
}

}  // namespace

bool MayFormStep(const Occupancy& occupancy, int max_steps_in_flight) {
  if (occupancy.runnable == 0) return false;
  if (occupancy.steps_in_flight == 0) return true;
  if (occupancy.steps_in_flight >= max_steps_in_flight) return false;
  const int64_t active = occupancy.runnable + occupancy.in_step;
  const int64_t share = (active + max_steps_in_flight - 1) / max_steps_in_flight;
  return occupancy.runnable >= share;
}

StepPlan PlanStep(const SchedulerLimits& limits, absl::Span<const SequenceView> running,
                  absl::Span<const SequenceView> waiting, int64_t free_pages,
                  const InStep& others) {
  Planner planner(limits, running, free_pages, others);
  planner.PlanDecode();
  planner.PlanPrefill();
  planner.Admit(waiting);
  return planner.Take();
}

}  // namespace ccoe::engine
