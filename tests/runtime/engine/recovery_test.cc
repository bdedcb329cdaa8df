#include "runtime/engine/recovery.h"

#include <memory>
#include <utility>
#include <vector>

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
using ::ccoe::testing::TestSequence;
using ::testing::AllOf;
using ::testing::HasSubstr;

class RecoveryTest : public ::testing::Test {
 protected:
  std::shared_ptr<Sequence> Running(uint64_t handle) {
    auto sequence = TestSequence(handle, 4, recorder_, binding_);
    roster_.Enqueue(sequence);
    roster_.Admit(handle, kTestTime);
    return sequence;
  }
  SwapFlight Flight(const std::vector<std::shared_ptr<Sequence>>& sequences) {
    SwapFlight flight;
    flight.id = 12;
    flight.binding = binding_;
    for (const auto& sequence : sequences) {
      sequence->BeginStep(1);
      flight.entries.push_back({sequence, 0, 4, {}});
    }
    return flight;
  }
  void Recover(SwapFlight flight, const absl::Status& status) {
    RecoverFromSwapError(flight, status, roster_, kTestTime);
  }

  AnswerRecorder recorder_;
  std::shared_ptr<const ExpertBinding> binding_ =
      TestBinding("math", {4, 8}, std::make_shared<FakeLink>());
  SequenceTable roster_{64, 4, nullptr};
};

TEST_F(RecoveryTest, ADeadPeerEndsTheQueriesWithEverythingNamed) {
  const auto a = Running(1);
  Recover(Flight({a}), absl::UnavailableError("connection reset"));
  EXPECT_EQ(recorder_.Now().reason, FinishReason::kError);
  EXPECT_THAT(recorder_.Now().status,
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("math@1"), HasSubstr("fake"), HasSubstr("swap 12"),
                             HasSubstr("layers [4, 8)"), HasSubstr("connection reset"))));
}

TEST_F(RecoveryTest, AFullExpertPreemptsTheYoungerHalf) {
  const auto a = Running(1), b = Running(2), c = Running(3);
  Recover(Flight({c, a, b}), absl::ResourceExhaustedError("no pages"));
  EXPECT_EQ(a->state(), SequenceState::kRunnable);
  EXPECT_EQ(b->state(), SequenceState::kWaiting);
  EXPECT_EQ(c->state(), SequenceState::kWaiting);
  EXPECT_GT(b->not_before, kTestTime);
}

TEST_F(RecoveryTest, KvThatIsThereIsGivenUpForOneQueryAtATime) {
  const auto a = Running(1), b = Running(2), c = Running(3), d = Running(4), e = Running(5);
  for (const auto& holder : {a, b, c}) {
    holder->BeginStep(1);
    holder->EndStep(2);
  }
  Recover(Flight({a, b, c, d, e}), absl::ResourceExhaustedError("no pages"));
  EXPECT_EQ(c->state(), SequenceState::kRunnable);
  EXPECT_EQ(d->state(), SequenceState::kWaiting);
  EXPECT_EQ(e->state(), SequenceState::kWaiting);
  Recover(Flight({a, b, c}), absl::ResourceExhaustedError("no pages"));
  EXPECT_EQ(b->state(), SequenceState::kRunnable);
  EXPECT_EQ(c->state(), SequenceState::kWaiting);
}

TEST_F(RecoveryTest, PausesGrowUntilTheQueryMakesProgress) {
  const auto a = Running(1), b = Running(2);
  absl::Duration last;
  for (int i = 0; i < 3; ++i) {
    Recover(Flight({a, b}), absl::ResourceExhaustedError("no pages"));
    EXPECT_GT(b->not_before - kTestTime, last);
    last = b->not_before - kTestTime;
    roster_.Admit(2, kTestTime);
  }
  b->Emit({}, kTestTime);
  Recover(Flight({a, b}), absl::ResourceExhaustedError("no pages"));
  EXPECT_LT(b->not_before - kTestTime, last);
}

TEST_F(RecoveryTest, AQueryThatEndsMakesRoomForTheOldestThatWasPutOff) {
  const auto a = Running(1), b = Running(2), c = Running(3);
  a->swapped = true;
  Recover(Flight({a, b, c}), absl::ResourceExhaustedError("no pages"));
  roster_.Finish(a, FinishReason::kLength, absl::OkStatus(), kTestTime);
  EXPECT_EQ(b->not_before, absl::InfinitePast());
  EXPECT_GT(c->not_before, kTestTime);
}

TEST_F(RecoveryTest, AQueryAloneInItsSwapTakesTheRoomOfAYoungerOne) {
  const auto a = Running(1), b = Running(2);
  Recover(Flight({a}), absl::ResourceExhaustedError("no pages"));
  EXPECT_EQ(a->state(), SequenceState::kRunnable);
  EXPECT_EQ(b->state(), SequenceState::kWaiting);
}

TEST_F(RecoveryTest, TheYoungestWaitsForTheOthers) {
  const auto a = Running(1), b = Running(2);
  Recover(Flight({b}), absl::ResourceExhaustedError("no pages"));
  EXPECT_EQ(a->state(), SequenceState::kRunnable);
  EXPECT_EQ(b->state(), SequenceState::kWaiting);
  EXPECT_EQ(b->exhausted_retries, 0);  // others will make room
}

TEST_F(RecoveryTest, AQueryThatNeverFitsEndsAfterBoundedRetries) {
  const auto a = Running(1);
  for (int i = 0; i < kMaxExhaustedRetries; ++i) {
    Recover(Flight({a}), absl::ResourceExhaustedError("no pages"));
    ASSERT_EQ(a->state(), SequenceState::kWaiting);
    roster_.Admit(1, kTestTime);
  }
  Recover(Flight({a}), absl::ResourceExhaustedError("no pages"));
  EXPECT_EQ(recorder_.Now().reason, FinishReason::kError);
  EXPECT_THAT(recorder_.Now().status,
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("no pages")));
}

TEST_F(RecoveryTest, LostKvIsComputedAgainABoundedNumberOfTimes) {
  const auto a = Running(1);
  for (int i = 0; i < kMaxLostKvRetries; ++i) {
    Recover(Flight({a}), absl::FailedPreconditionError("no KV"));
    ASSERT_EQ(a->state(), SequenceState::kWaiting);
    EXPECT_EQ(a->not_before, absl::InfinitePast());
    roster_.Admit(1, kTestTime);
  }
  Recover(Flight({a}), absl::FailedPreconditionError("no KV"));
  EXPECT_THAT(recorder_.Now().status, StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(RecoveryTest, QueriesThatEndedMeanwhileArePassedOver) {
  const auto a = Running(1);
  SwapFlight flight = Flight({a});
  roster_.Finish(a, FinishReason::kCancelled, absl::CancelledError("x"), kTestTime);
  Recover(std::move(flight), absl::ResourceExhaustedError("no pages"));
  EXPECT_EQ(recorder_.Now().finishes, 1);
}

}  // namespace
}  // namespace ccoe::engine
