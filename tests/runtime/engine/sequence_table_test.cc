// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/sequence_table.h"

#include <memory>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/fake_link.h"
#include "tests/testing/recording_sink.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_sequence.h"

namespace ccoe::engine {
namespace {

using ::ccoe::testing::AnswerRecorder;
using ::ccoe::testing::FakeLink;
using ::ccoe::testing::kTestTime;
using ::ccoe::testing::StatusIs;
using ::ccoe::testing::TestBinding;
using ::ccoe::testing::TestInit;
using ::ccoe::testing::TestSequence;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class SequenceTableTest : public ::testing::Test {
 protected:
  std::shared_ptr<Sequence> Add(uint64_t handle, bool with_expert = false) {
    auto sequence = TestSequence(handle, 10, recorder_,
                                 with_expert ? TestBinding("a", {4, 8}, link_) : nullptr);
    table_.Enqueue(sequence);
    return sequence;
  }

  AnswerRecorder recorder_;
  std::shared_ptr<FakeLink> link_ = std::make_shared<FakeLink>();
  SequenceTable table_{8, 4, nullptr};
};

TEST_F(SequenceTableTest, AdmissionMovesFromWaitingToRunning) {
  Add(1);
  Add(2);
  EXPECT_EQ(table_.fresh(), 2);
  table_.Admit(2, kTestTime);
  EXPECT_EQ(table_.fresh(), 1);
  EXPECT_EQ(table_.startable(), 1);
  EXPECT_EQ(table_.StartableViews(9).size(), 1u);
  EXPECT_EQ(table_.runnable(), 1);
  ASSERT_EQ(table_.RunnableViews().size(), 1u);
  EXPECT_EQ(table_.RunnableViews()[0].handle, 2u);
  EXPECT_TRUE(table_.RunnableViews()[0].runnable);
  EXPECT_EQ(table_.RunnableViews()[0].known_tokens, 10);
}

TEST_F(SequenceTableTest, PreemptionFreesPagesHereAndAtTheExpertAndGivesANewName) {
  const auto sequence = Add(1, true);
  table_.Admit(1, kTestTime);
  const uint64_t first_name = sequence->link_id();
  EXPECT_OK(table_.GrowPages(*sequence, 10));
  EXPECT_EQ(table_.pages().used_pages(), 3);
  sequence->swapped = true;
  table_.Preempt(*sequence, kTestTime + absl::Seconds(1));
  EXPECT_EQ(table_.pages().used_pages(), 0);
  EXPECT_THAT(link_->released(), ElementsAre(first_name));
  EXPECT_EQ(table_.preemptions(), 1);
  table_.Wake(kTestTime);
  EXPECT_THAT(table_.StartableViews(9), IsEmpty());  // not before
  EXPECT_EQ(table_.NextEvent(), kTestTime + absl::Seconds(1));
  table_.Wake(kTestTime + absl::Seconds(1));
  EXPECT_EQ(table_.StartableViews(9).size(), 1u);
  EXPECT_EQ(table_.NextEvent(), absl::InfiniteFuture());
  table_.Admit(1, kTestTime + absl::Seconds(1));
  EXPECT_NE(sequence->link_id(), first_name);
  EXPECT_EQ(table_.fresh(), 0);
}

TEST_F(SequenceTableTest, APreemptedSequenceStandsBeforeYoungerOnes) {
  const auto sequence = Add(1);
  table_.Admit(1, kTestTime);
  Add(2);
  table_.Preempt(*sequence, absl::InfinitePast());
  const auto views = table_.StartableViews(9);
  ASSERT_EQ(views.size(), 2u);
  EXPECT_EQ(views[0].handle, 1u);
}

TEST_F(SequenceTableTest, FinishFreesEverythingInAnyState) {
  const auto waiting = Add(1), in_step = Add(2, true);
  table_.Admit(2, kTestTime);
  EXPECT_OK(table_.GrowPages(*in_step, 4));
  table_.BeginStep(*in_step, 1);
  in_step->swapped = true;
  table_.Finish(in_step, FinishReason::kCancelled, absl::CancelledError("x"), kTestTime);
  table_.Finish(waiting, FinishReason::kCancelled, absl::CancelledError("x"), kTestTime);
  EXPECT_EQ(table_.pages().used_pages(), 0);
  EXPECT_THAT(link_->released(), ElementsAre(in_step->link_id()));
  EXPECT_EQ(table_.Find(1), nullptr);
  EXPECT_EQ(table_.Find(2), nullptr);
  EXPECT_EQ(table_.fresh(), 0);
  EXPECT_THAT(table_.TakeFinished(), ElementsAre(2, 1));
  EXPECT_THAT(table_.TakeFinished(), IsEmpty());
}

TEST_F(SequenceTableTest, AnExpertThatNeverSawTheSequenceIsNotBothered) {
  const auto sequence = Add(1, true);
  table_.Admit(1, kTestTime);
  table_.Finish(sequence, FinishReason::kLength, absl::OkStatus(), kTestTime);
  EXPECT_THAT(link_->released(), IsEmpty());
}

TEST_F(SequenceTableTest, ExpiredQueriesEndWithDeadlineExceeded) {
  SequenceInit init = TestInit(1, 10, recorder_);
  init.query.deadline = kTestTime + absl::Seconds(5);
  table_.Enqueue(std::make_shared<Sequence>(std::move(init)));
  AnswerRecorder other;
  table_.Enqueue(std::make_shared<Sequence>(TestInit(2, 10, other)));
  EXPECT_EQ(table_.NextEvent(), kTestTime + absl::Seconds(5));
  table_.FinishExpired(kTestTime + absl::Seconds(4));
  EXPECT_EQ(recorder_.Now().finishes, 0);
  table_.FinishExpired(kTestTime + absl::Seconds(5));
  EXPECT_EQ(recorder_.Now().reason, FinishReason::kCancelled);
  EXPECT_THAT(recorder_.Now().status,
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("q1")));
  EXPECT_EQ(other.Now().finishes, 0);
}

TEST_F(SequenceTableTest, ASequenceInAStepIsCountedAmongTheOthersWithThePagesItWillTake) {
  const auto moves = Add(1), stays = Add(2);
  table_.Admit(1, kTestTime);
  table_.Admit(2, kTestTime);
  EXPECT_OK(table_.GrowPages(*moves, 4));
  table_.BeginStep(*moves, 1);
  EXPECT_EQ(table_.runnable(), 1);
  EXPECT_EQ(table_.OthersRunning().sequences, 1);
  EXPECT_EQ(table_.OthersRunning().promised_pages, 2);  // of 11 tokens in pages of 4, one is held
  table_.EndStep(*moves, 4);
  EXPECT_EQ(table_.runnable(), 2);
  EXPECT_EQ(table_.OthersRunning().sequences, 0);
  EXPECT_EQ(table_.OthersRunning().promised_pages, 0);
  table_.Emit(*stays, {}, kTestTime);
  table_.Emit(*stays, {}, kTestTime);
  table_.BeginStep(*stays, 2);
  EXPECT_EQ(table_.OthersRunning().promised_pages, 4);  // of 13 tokens
}

TEST_F(SequenceTableTest, APauseKeepsARunningSequenceAndItsPagesOutOfSteps) {
  const auto sequence = Add(1);
  table_.Admit(1, kTestTime);
  EXPECT_OK(table_.GrowPages(*sequence, 4));
  table_.Pause(*sequence, kTestTime + absl::Seconds(1));
  EXPECT_EQ(table_.runnable(), 0);
  EXPECT_EQ(table_.pages().used_pages(), 1);
  table_.Wake(kTestTime);
  EXPECT_EQ(table_.runnable(), 0);
  table_.Wake(kTestTime + absl::Seconds(1));
  EXPECT_EQ(table_.runnable(), 1);
}

TEST_F(SequenceTableTest, OnlyWhatEndsInAStepIsSaidToHave) {
  const auto in_step = Add(1), runnable = Add(2);
  table_.Admit(1, kTestTime);
  table_.Admit(2, kTestTime);
  table_.BeginStep(*in_step, 1);
  table_.Finish(runnable, FinishReason::kLength, absl::OkStatus(), kTestTime);
  EXPECT_FALSE(table_.TakeFinishedInStep());
  table_.Finish(in_step, FinishReason::kCancelled, absl::CancelledError("x"), kTestTime);
  EXPECT_TRUE(table_.TakeFinishedInStep());
  EXPECT_FALSE(table_.TakeFinishedInStep());
}

}  // namespace
}  // namespace ccoe::engine
