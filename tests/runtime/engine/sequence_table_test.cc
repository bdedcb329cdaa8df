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
    roster_.Enqueue(sequence);
    return sequence;
  }

  AnswerRecorder recorder_;
  std::shared_ptr<FakeLink> link_ = std::make_shared<FakeLink>();
  SequenceTable roster_{8, 4, nullptr};
};

TEST_F(SequenceTableTest, AdmissionMovesFromWaitingToRunning) {
  Add(1);
  Add(2);
  EXPECT_EQ(roster_.fresh(), 2);
  roster_.Admit(2, kTestTime);
  EXPECT_EQ(roster_.fresh(), 1);
  EXPECT_EQ(roster_.WaitingViews(kTestTime, 9).size(), 1u);
  ASSERT_EQ(roster_.RunningViews().size(), 1u);
  EXPECT_EQ(roster_.RunningViews()[0].handle, 2u);
  EXPECT_TRUE(roster_.RunningViews()[0].runnable);
  EXPECT_EQ(roster_.RunningViews()[0].known_tokens, 10);
}

TEST_F(SequenceTableTest, PreemptionFreesPagesHereAndAtTheExpertAndGivesANewName) {
  const auto sequence = Add(1, true);
  roster_.Admit(1, kTestTime);
  const uint64_t first_name = sequence->link_id();
  EXPECT_OK(roster_.GrowPages(*sequence, 10));
  EXPECT_EQ(roster_.pages().used_pages(), 3);
  sequence->swapped = true;
  roster_.Preempt(*sequence, kTestTime + absl::Seconds(1));
  EXPECT_EQ(roster_.pages().used_pages(), 0);
  EXPECT_THAT(link_->released(), ElementsAre(first_name));
  EXPECT_EQ(roster_.preemptions(), 1);
  EXPECT_THAT(roster_.WaitingViews(kTestTime, 9), IsEmpty());  // not before
  EXPECT_EQ(roster_.NextEvent(kTestTime), kTestTime + absl::Seconds(1));
  EXPECT_EQ(roster_.WaitingViews(kTestTime + absl::Seconds(1), 9).size(), 1u);
  roster_.Admit(1, kTestTime + absl::Seconds(1));
  EXPECT_NE(sequence->link_id(), first_name);
  EXPECT_EQ(roster_.fresh(), 0);
}

TEST_F(SequenceTableTest, APreemptedSequenceStandsBeforeYoungerOnes) {
  const auto sequence = Add(1);
  roster_.Admit(1, kTestTime);
  Add(2);
  roster_.Preempt(*sequence, absl::InfinitePast());
  const auto views = roster_.WaitingViews(kTestTime, 9);
  ASSERT_EQ(views.size(), 2u);
  EXPECT_EQ(views[0].handle, 1u);
}

TEST_F(SequenceTableTest, FinishFreesEverythingInAnyState) {
  const auto waiting = Add(1), in_step = Add(2, true);
  roster_.Admit(2, kTestTime);
  EXPECT_OK(roster_.GrowPages(*in_step, 4));
  in_step->BeginStep(1);
  in_step->swapped = true;
  roster_.Finish(in_step, FinishReason::kCancelled, absl::CancelledError("x"), kTestTime);
  roster_.Finish(waiting, FinishReason::kCancelled, absl::CancelledError("x"), kTestTime);
  EXPECT_EQ(roster_.pages().used_pages(), 0);
  EXPECT_THAT(link_->released(), ElementsAre(in_step->link_id()));
  EXPECT_EQ(roster_.Find(1), nullptr);
  EXPECT_EQ(roster_.Find(2), nullptr);
  EXPECT_EQ(roster_.fresh(), 0);
  EXPECT_THAT(roster_.TakeFinished(), ElementsAre(2, 1));
  EXPECT_THAT(roster_.TakeFinished(), IsEmpty());
}

TEST_F(SequenceTableTest, AnExpertThatNeverSawTheSequenceIsNotBothered) {
  const auto sequence = Add(1, true);
  roster_.Admit(1, kTestTime);
  roster_.Finish(sequence, FinishReason::kLength, absl::OkStatus(), kTestTime);
  EXPECT_THAT(link_->released(), IsEmpty());
}

TEST_F(SequenceTableTest, ExpiredQueriesEndWithDeadlineExceeded) {
  SequenceInit init = TestInit(1, 10, recorder_);
  init.query.deadline = kTestTime + absl::Seconds(5);
  roster_.Enqueue(std::make_shared<Sequence>(std::move(init)));
  AnswerRecorder other;
  roster_.Enqueue(std::make_shared<Sequence>(TestInit(2, 10, other)));
  EXPECT_EQ(roster_.NextEvent(kTestTime), kTestTime + absl::Seconds(5));
  roster_.FinishExpired(kTestTime + absl::Seconds(4));
  EXPECT_EQ(recorder_.Now().finishes, 0);
  roster_.FinishExpired(kTestTime + absl::Seconds(5));
  EXPECT_EQ(recorder_.Now().reason, FinishReason::kCancelled);
  EXPECT_THAT(recorder_.Now().status,
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("q1")));
  EXPECT_EQ(other.Now().finishes, 0);
}

}  // namespace
}  // namespace ccoe::engine
