// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/scheduler.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::engine {

bool operator==(const PlannedRows& a, const PlannedRows& b) {
  return a.handle == b.handle && a.first_position == b.first_position && a.row_count == b.row_count;
}
void PrintTo(const PlannedRows& rows, std::ostream* os) {
  *os << "{" << rows.handle << ", " << rows.first_position << ", " << rows.row_count << "}";
}

namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class SchedulerTest : public ::testing::Test {
 protected:
  SchedulerTest() {
    limits_.max_step_tokens = 16;
    limits_.max_prefill_chunk = 8;
    limits_.max_running = 8;
    limits_.page_tokens = 4;
  }

  int64_t PagesFor(int64_t tokens) const {
    return (tokens + limits_.page_tokens - 1) / limits_.page_tokens;
  }

  SequenceView View(uint64_t handle, int64_t known, int64_t computed) const {
    SequenceView view;
    view.handle = handle;
    view.known_tokens = known;
    view.computed_tokens = computed;
    view.held_pages = PagesFor(computed);
    return view;
  }
  SequenceView Decoding(uint64_t handle, int64_t known) const {
    return View(handle, known, known - 1);
  }

  SchedulerLimits limits_;
};

TEST_F(SchedulerTest, NothingToDoGivesAnEmptyPlan) {
  const StepPlan plan = PlanStep(limits_, {}, {}, 10);
  EXPECT_THAT(plan.rows, IsEmpty());
  EXPECT_THAT(plan.admitted, IsEmpty());
}

TEST_F(SchedulerTest, DecodeRowsComeBeforePrefillChunks) {
  const StepPlan plan =
      PlanStep(limits_, {{View(1, 20, 8), Decoding(2, 6), Decoding(3, 9)}}, {}, 10);
  EXPECT_THAT(plan.rows,
              ElementsAre(PlannedRows{2, 5, 1}, PlannedRows{3, 8, 1}, PlannedRows{1, 8, 8}));
}

TEST_F(SchedulerTest, PrefillIsCutToChunkAndBudget) {
  const StepPlan plan = PlanStep(limits_, {{View(1, 20, 0), View(2, 7, 0), View(3, 9, 0)}}, {}, 20);
  EXPECT_THAT(plan.rows,
              ElementsAre(PlannedRows{1, 0, 8}, PlannedRows{2, 0, 7}, PlannedRows{3, 0, 1}));
}

TEST_F(SchedulerTest, RowsInAStepAreLeftAlone) {
  SequenceView busy = Decoding(1, 6);
  busy.runnable = false;
  const StepPlan plan = PlanStep(limits_, {{busy, Decoding(2, 6)}}, {}, 10);
  EXPECT_THAT(plan.rows, ElementsAre(PlannedRows{2, 5, 1}));
}

TEST_F(SchedulerTest, DecodeThatWaitedLongestGoesFirst) {
  limits_.max_step_tokens = 2;
  SequenceView a = Decoding(1, 6), b = Decoding(2, 6), c = Decoding(3, 6);
  a.last_step = 9;
  b.last_step = 7;
  c.last_step = 8;
  const StepPlan plan = PlanStep(limits_, {{a, b, c}}, {}, 10);
  EXPECT_THAT(plan.rows, ElementsAre(PlannedRows{2, 5, 1}, PlannedRows{3, 5, 1}));
}

TEST_F(SchedulerTest, DecodeDoesNotStarvePrefill) {
  limits_.max_step_tokens = 4;
  const StepPlan plan = PlanStep(
      limits_, {{Decoding(1, 6), Decoding(2, 6), Decoding(3, 6), Decoding(4, 6), View(5, 9, 0)}},
      {}, 10);
  EXPECT_THAT(plan.rows, ElementsAre(PlannedRows{1, 5, 1}, PlannedRows{2, 5, 1},
                                     PlannedRows{3, 5, 1}, PlannedRows{5, 0, 1}));
}

TEST_F(SchedulerTest, WaitingOnesAreAdmittedInOrderWithTheirFirstChunk) {
  const StepPlan plan =
      PlanStep(limits_, {{Decoding(1, 6)}}, {{View(2, 5, 0), View(3, 20, 0)}}, 20);
  EXPECT_THAT(plan.admitted, ElementsAre(2, 3));
  EXPECT_THAT(plan.rows,
              ElementsAre(PlannedRows{1, 5, 1}, PlannedRows{2, 0, 5}, PlannedRows{3, 0, 8}));
}

TEST_F(SchedulerTest, AdmissionStopsAtMaxRunning) {
  limits_.max_running = 2;
  const StepPlan plan = PlanStep(limits_, {{Decoding(1, 6)}}, {{View(2, 3, 0), View(3, 3, 0)}}, 20);
  EXPECT_THAT(plan.admitted, ElementsAre(2));
}

TEST_F(SchedulerTest, AdmissionLeavesRoomForPromptsUnderWay) {
  // Sequence 1 will take 4 more pages for its prompt; of 6 free ones a prompt of 2 pages fits
  // beside it, no more.
  const std::vector<SequenceView> running = {View(1, 23, 8)};
  EXPECT_THAT(PlanStep(limits_, running, {{View(2, 7, 0)}}, 6).admitted, ElementsAre(2));
  EXPECT_THAT(PlanStep(limits_, running, {{View(2, 8, 0)}}, 6).admitted, IsEmpty());
}

TEST_F(SchedulerTest, AdmissionDoesNotJumpTheQueue) {
  const StepPlan plan = PlanStep(limits_, {{Decoding(1, 6)}}, {{View(2, 40, 0), View(3, 3, 0)}}, 5);
  EXPECT_THAT(plan.admitted, IsEmpty());
}

TEST_F(SchedulerTest, ASequenceThatFillsTheWholeCacheRunsAlone) {
  const StepPlan plan = PlanStep(limits_, {}, {{View(1, 20, 0)}}, 5);
  EXPECT_THAT(plan.admitted, ElementsAre(1));
  EXPECT_THAT(plan.rows, ElementsAre(PlannedRows{1, 0, 8}));
}

TEST_F(SchedulerTest, TheYoungestIsPreemptedWhenPagesRunOut) {
  // Sequence 1 needs a page; 2 and 3 need none.
  const StepPlan plan =
      PlanStep(limits_, {{Decoding(1, 9), Decoding(2, 7), Decoding(3, 7)}}, {}, 0);
  EXPECT_THAT(plan.preempted, ElementsAre(3));
  EXPECT_THAT(plan.rows, ElementsAre(PlannedRows{1, 8, 1}, PlannedRows{2, 6, 1}));
}

TEST_F(SchedulerTest, NobodyIsPreemptedForAYoungerOne) {
  const StepPlan plan = PlanStep(limits_, {{Decoding(1, 7), Decoding(2, 9)}}, {}, 0);
  EXPECT_THAT(plan.preempted, IsEmpty());
  EXPECT_THAT(plan.rows, ElementsAre(PlannedRows{1, 6, 1}));
}

TEST_F(SchedulerTest, SequencesInFlightAreNotPreempted) {
  SequenceView busy = Decoding(2, 7);
  busy.runnable = false;
  const StepPlan plan = PlanStep(limits_, {{Decoding(1, 9), busy}}, {}, 0);
  EXPECT_THAT(plan.preempted, IsEmpty());
  EXPECT_THAT(plan.rows, IsEmpty());
}

TEST_F(SchedulerTest, NobodyIsPreemptedInVain) {
  SequenceView busy = Decoding(2, 30);
  busy.runnable = false;
  // The chunk needs two pages; preempting 3 gives one.
  const StepPlan plan = PlanStep(limits_, {{View(1, 20, 8), busy, Decoding(3, 4)}}, {}, 0);
  EXPECT_THAT(plan.preempted, IsEmpty());
  EXPECT_THAT(plan.rows, ElementsAre(PlannedRows{3, 3, 1}));
}

TEST_F(SchedulerTest, AStalledYoungerOneGivesWayToAnOlderOne) {
  // 2 is looked at first (it waited longer), finds no page and must not block 1, which can take
  // 2's.
  SequenceView a = Decoding(1, 9), b = Decoding(2, 9);
  a.last_step = 5;
  b.last_step = 4;
  const StepPlan plan = PlanStep(limits_, {{a, b}}, {}, 0);
  EXPECT_THAT(plan.preempted, ElementsAre(2));
  EXPECT_THAT(plan.rows, ElementsAre(PlannedRows{1, 8, 1}));
}

TEST_F(SchedulerTest, NobodyIsAdmittedWhilePagesAreShort) {
  const StepPlan plan =
      PlanStep(limits_, {{Decoding(1, 9), Decoding(2, 37)}}, {{View(3, 2, 0)}}, 0);
  EXPECT_THAT(plan.preempted, ElementsAre(2));
  EXPECT_THAT(plan.admitted, IsEmpty());
}

// Runs sequences to their end on a pool far too small for all and checks the bookkeeping of every
// plan on the way.
TEST_F(SchedulerTest, EverySequenceGetsDoneOnATightPoolAndPagesAreNeverOverdrawn) {
  constexpr int64_t kPool = 12;
  constexpr int64_t kPrompt = 13, kEnd = 30;
  std::vector<SequenceView> running, waiting;
  for (uint64_t handle = 1; handle <= 9; ++handle) waiting.push_back(View(handle, kPrompt, 0));
  size_t done = 0;
  for (int step = 1; step < 2000 && done < 9; ++step) {
    int64_t held = 0;
    for (const SequenceView& view : running) held += view.held_pages;
    const StepPlan plan = PlanStep(limits_, running, waiting, kPool - held);
    ASSERT_FALSE(plan.rows.empty());
    const auto move = [](std::vector<SequenceView>& from, std::vector<SequenceView>& to,
                         uint64_t handle) {
      const auto it =
          std::find_if(from.begin(), from.end(), [&](const auto& v) { return v.handle == handle; });
      to.push_back(*it);
      from.erase(it);
      std::sort(to.begin(), to.end(),
                [](const auto& a, const auto& b) { return a.handle < b.handle; });
    };
    for (uint64_t handle : plan.preempted) {
      move(running, waiting, handle);
      for (SequenceView& view : waiting) view.computed_tokens = view.held_pages = 0;
    }
    for (uint64_t handle : plan.admitted) move(waiting, running, handle);
    held = 0;
    for (const PlannedRows& rows : plan.rows) {
      const auto it = std::find_if(running.begin(), running.end(),
                                   [&](const auto& v) { return v.handle == rows.handle; });
      ASSERT_NE(it, running.end());
      ASSERT_EQ(it->computed_tokens, rows.first_position);
      it->computed_tokens += rows.row_count;
      it->held_pages = PagesFor(it->computed_tokens);
      it->last_step = step;
      if (it->computed_tokens == it->known_tokens) ++it->known_tokens;
    }
    for (const SequenceView& view : running) held += view.held_pages;
    ASSERT_LE(held, kPool);
    done += std::erase_if(running, [&](const auto& v) { return v.known_tokens > kEnd; });
  }
  EXPECT_EQ(done, 9u);
}

TEST(MayFormStepTest, FormsWhenNothingIsInFlight) {
  EXPECT_TRUE(MayFormStep({1, 0, 0}, 2));
  EXPECT_FALSE(MayFormStep({0, 0, 0}, 2));
}

TEST(MayFormStepTest, WaitsForItsShareWhileAStepIsInFlight) {
  EXPECT_FALSE(MayFormStep({1, 31, 1}, 2));
  EXPECT_FALSE(MayFormStep({15, 17, 1}, 2));
  EXPECT_TRUE(MayFormStep({16, 16, 1}, 2));
  EXPECT_TRUE(MayFormStep({1, 1, 1}, 2));
  EXPECT_TRUE(MayFormStep({11, 21, 2}, 3));
}

TEST(MayFormStepTest, NeverMoreThanMaxInFlight) {
  EXPECT_FALSE(MayFormStep({30, 2, 2}, 2));
  EXPECT_FALSE(MayFormStep({30, 2, 1}, 1));
}

}  // namespace
}  // namespace ccoe::engine
