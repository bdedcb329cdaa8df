// SPDX-License-Identifier: Apache-2.0
// Whatever queries come and however long steps take: plans stay within their budgets and the pages
// there are, and every query ends.
#include <algorithm>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "rapidcheck/gtest.h"
#include "runtime/engine/scheduler.h"

namespace ccoe::engine {
namespace {

// Prompt and answer, in tokens.
struct Query {
  int64_t prompt = 1;
  int64_t generated = 1;
  int64_t tokens() const { return prompt + generated; }
};

struct Setting {
  SchedulerLimits limits;
  int64_t pages = 1;
  std::vector<Query> queries;
};

int64_t PagesFor(int64_t tokens, const SchedulerLimits& limits) {
  return (tokens + limits.page_tokens - 1) / limits.page_tokens;
}

Setting AnySetting() {
  Setting setting;
  SchedulerLimits& limits = setting.limits;
  limits.page_tokens = *rc::gen::inRange<int64_t>(1, 6).as("page_tokens");
  limits.max_step_tokens = *rc::gen::inRange<int64_t>(1, 12).as("max_step_tokens");
  limits.max_prefill_chunk = *rc::gen::inRange<int64_t>(1, 12).as("max_prefill_chunk");
  limits.max_running = *rc::gen::inRange<int64_t>(1, 10).as("max_running");
  limits.max_steps_in_flight = *rc::gen::inRange(1, 4).as("max_steps_in_flight");
  setting.pages = *rc::gen::inRange<int64_t>(1, 40).as("pages");
  // Each fits into the cache by itself: others are not admitted to the queue.
  const int64_t most = setting.pages * limits.page_tokens;
  const auto sizes =
      *rc::gen::container<std::vector<std::pair<int64_t, int64_t>>>(
           rc::gen::pair(rc::gen::inRange<int64_t>(1, 30), rc::gen::inRange<int64_t>(1, 12)))
           .as("queries: prompt, generated");
  for (const auto& [prompt, generated] : sizes) {
    const int64_t cut = std::min(prompt, std::max<int64_t>(most - 1, 1));
    if (most >= 2) setting.queries.push_back({cut, std::min(generated, most - cut)});
  }
  return setting;
}

// What an engine does with plans: holds pages, has steps in flight, lets queries come and end.
class Simulation {
 public:
  explicit Simulation(const Setting& setting) : setting_(setting), free_(setting.pages) {}

  // Steps until all queries have ended.
  void Run() {
    int64_t bound = 16;
    for (const Query& query : setting_.queries) bound += 4 * query.tokens();
    bound *= 2 + static_cast<int64_t>(setting_.queries.size());
    for (int64_t step = 0; ended_ < setting_.queries.size(); ++step) {
      RC_ASSERT(step < bound);
      if (arrived_ < setting_.queries.size() && *rc::gen::arbitrary<bool>()) Arrive();
      while (!in_flight_.empty() && *rc::gen::inRange(0, 3) == 0) Land();
      if (!MayForm()) {
        if (!in_flight_.empty()) Land();
        continue;
      }
      Form();
    }
    RC_ASSERT(free_ == setting_.pages);
  }

 private:
  struct Sequence {
    SequenceView view;
    int64_t end = 0;  // tokens it has at its end
    int64_t prompt = 0;
    bool running = false;
  };

  void Arrive() {
    const Query& query = setting_.queries[arrived_++];
    Sequence& sequence = sequences_[arrived_];
    sequence.view.handle = arrived_;
    sequence.view.known_tokens = sequence.prompt = query.prompt;
    sequence.end = query.tokens();
  }

  std::vector<SequenceView> Views(bool running) const {
    std::vector<SequenceView> views;
    for (const auto& [handle, sequence] : sequences_) {
      if (sequence.running == running) views.push_back(sequence.view);
    }
    return views;
  }

  bool MayForm() const {
    Occupancy occupancy;
    occupancy.steps_in_flight = static_cast<int>(in_flight_.size());
    for (const auto& [handle, sequence] : sequences_) {
      ++(sequence.view.runnable ? occupancy.runnable : occupancy.in_step);
    }
    const bool may = MayFormStep(occupancy, setting_.limits.max_steps_in_flight);
    if (in_flight_.empty()) RC_ASSERT(may == (occupancy.runnable > 0));
    return may;
  }

  void Form() {
    const StepPlan plan = PlanStep(setting_.limits, Views(true), Views(false), free_);
    // Who waits for nothing that is under way goes on.
    if (in_flight_.empty()) RC_ASSERT(!plan.rows.empty());
    CheckTurns(plan);
    for (const uint64_t handle : plan.preempted) Preempt(handle, plan);
    for (const uint64_t handle : plan.admitted) {
      RC_ASSERT(sequences_.count(handle) == 1 && !sequences_[handle].running);
      // In order.
      for (const auto& [other, sequence] : sequences_) {
        RC_ASSERT(other >= handle || sequence.running);
      }
      sequences_[handle].running = true;
    }
    int64_t rows = 0;
    for (const PlannedRows& planned : plan.rows) rows += Take(planned);
    RC_ASSERT(rows <= setting_.limits.max_step_tokens);
    RC_ASSERT(static_cast<int64_t>(Views(true).size()) <= setting_.limits.max_running);
    RC_ASSERT(free_ >= 0);
    if (!plan.rows.empty()) in_flight_.push_back(plan.rows);
    ++step_;
  }

  // Where no page is missing: those that decode take turns, and the oldest prompt goes on.
  void CheckTurns(const StepPlan& plan) const {
    std::set<uint64_t> planned;
    for (const PlannedRows& rows : plan.rows) planned.insert(rows.handle);
    int64_t needed = 0;
    std::optional<uint64_t> prompt;  // the oldest one under way
    for (const SequenceView& view : Views(true)) {
      needed +=
          std::max<int64_t>(PagesFor(view.known_tokens, setting_.limits) - view.held_pages, 0);
      const bool decodes = view.known_tokens - view.computed_tokens == 1;
      if (view.runnable && !decodes && !prompt.has_value()) prompt = view.handle;
    }
    if (needed > free_) return;
    if (prompt.has_value() && setting_.limits.max_step_tokens >= 4) {
      RC_ASSERT(planned.count(*prompt) == 1);
    }
    uint64_t latest = 0, earliest_left = std::numeric_limits<uint64_t>::max();
    for (const SequenceView& view : Views(true)) {
      if (!view.runnable || view.known_tokens - view.computed_tokens != 1) continue;
      if (planned.count(view.handle) == 1) {
        latest = std::max(latest, view.last_step);
      } else {
        earliest_left = std::min(earliest_left, view.last_step);
      }
    }
    RC_ASSERT(latest <= earliest_left);
  }

  // It gives way to an older one of the plan, and begins anew.
  void Preempt(uint64_t handle, const StepPlan& plan) {
    RC_ASSERT(sequences_.count(handle) == 1);
    Sequence& sequence = sequences_[handle];
    RC_ASSERT(sequence.running && sequence.view.runnable && sequence.view.held_pages > 0);
    RC_ASSERT(std::any_of(plan.rows.begin(), plan.rows.end(),
                          [&](const PlannedRows& rows) { return rows.handle < handle; }));
    free_ += sequence.view.held_pages;
    sequence.view.held_pages = sequence.view.computed_tokens = 0;
    sequence.running = false;
  }

  int64_t Take(const PlannedRows& planned) {
    RC_ASSERT(sequences_.count(planned.handle) == 1);
    Sequence& sequence = sequences_[planned.handle];
    SequenceView& view = sequence.view;
    RC_ASSERT(sequence.running && view.runnable);
    RC_ASSERT(planned.first_position == view.computed_tokens);
    RC_ASSERT(planned.row_count >= 1);
    RC_ASSERT(planned.row_count <= setting_.limits.max_prefill_chunk);
    RC_ASSERT(planned.first_position + planned.row_count <= view.known_tokens);
    const int64_t held = std::max(
        view.held_pages, PagesFor(planned.first_position + planned.row_count, setting_.limits));
    free_ -= held - view.held_pages;
    view.held_pages = held;
    view.runnable = false;  // until it is back: nobody takes it twice
    view.last_step = step_;
    return planned.row_count;
  }

  // The oldest step is back.
  void Land() {
    for (const PlannedRows& planned : in_flight_.front()) {
      Sequence& sequence = sequences_[planned.handle];
      SequenceView& view = sequence.view;
      view.runnable = true;
      view.computed_tokens += planned.row_count;
      if (view.computed_tokens < view.known_tokens) continue;
      if (++view.known_tokens < sequence.end) continue;
      free_ += view.held_pages;
      sequences_.erase(planned.handle);
      ++ended_;
    }
    in_flight_.pop_front();
  }

  const Setting& setting_;
  int64_t free_;
  size_t arrived_ = 0, ended_ = 0;
  uint64_t step_ = 0;
  std::map<uint64_t, Sequence> sequences_;  // those that have come and not ended
  std::deque<std::vector<PlannedRows>> in_flight_;
};

RC_GTEST_PROP(SchedulerPropertyTest, PlansKeepTheirBoundsAndEveryQueryEnds, ()) {
  const Setting setting = AnySetting();
  Simulation(setting).Run();
}

}  // namespace
}  // namespace ccoe::engine
