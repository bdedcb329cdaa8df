// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/recovery.h"

#include <memory>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/base/retry_hint.h"
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
using exchange::SwapError;
using exchange::SwapReason;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Replicas as a test gives them.
class OneReplica final : public ExpertDirectory {
 public:
  absl::StatusOr<std::shared_ptr<const ExpertBinding>> Find(const ExpertRef&) override {
    return absl::UnimplementedError("not asked");
  }
  absl::StatusOr<std::shared_ptr<const ExpertBinding>> FindReplica(const ExpertBinding&,
                                                                   const LinkList& avoid) override {
    avoided = avoid.size();
    if (replica == nullptr) return error;
    return replica;
  }

  std::shared_ptr<const ExpertBinding> replica;
  absl::Status error = absl::UnavailableError("nobody holds it");
  size_t avoided = 0;
};

class RecoveryTest : public ::testing::Test {
 protected:
  using Group = std::vector<std::shared_ptr<Sequence>>;

  RecoveryTest() {
    options_.replica_patience = absl::Seconds(10);
    options_.room_patience = absl::Seconds(30);
    recovery_ = std::make_unique<Recovery>(options_, &table_, &directory_);
  }

  std::shared_ptr<Sequence> Running(uint64_t handle) {
    auto sequence = TestSequence(handle, 4, recorder_, binding_);
    table_.Enqueue(sequence);
    table_.Admit(handle, kTestTime);
    return sequence;
  }
  // All of them were in a swap and got `error`.
  void Recover(const Group& group, const absl::Status& error, absl::Time now = kTestTime) {
    std::vector<Recovery::Failure> failures;
    for (const auto& sequence : group) {
      table_.BeginStep(*sequence, 1);
      failures.push_back({sequence, error});
    }
    recovery_->Recover(std::move(failures), now);
  }
  void NoPages(const Group& group, absl::Time now = kTestTime) {
    Recover(group, SwapError(SwapReason::kNoPages, "no pages"), now);
  }

  AnswerRecorder recorder_;
  std::shared_ptr<FakeLink> link_ = std::make_shared<FakeLink>();
  std::shared_ptr<const ExpertBinding> binding_ = TestBinding("math", {4, 8}, link_);
  EngineOptions options_;
  SequenceTable table_{64, 4, nullptr};
  OneReplica directory_;
  std::unique_ptr<Recovery> recovery_;
};

TEST_F(RecoveryTest, WhatCannotHelpEndsTheQueryWithTheError) {
  for (const SwapReason reason :
       {SwapReason::kInternal, SwapReason::kInvalid, SwapReason::kTooLong}) {
    AnswerRecorder recorder;
    const auto sequence = TestSequence(1, 4, recorder, binding_);
    table_.Enqueue(sequence);
    table_.Admit(1, kTestTime);
    Recover({sequence}, SwapError(reason, "swap 12: no"));
    EXPECT_EQ(recorder.Now().reason, FinishReason::kError);
    EXPECT_THAT(recorder.Now().status.message(), HasSubstr("swap 12: no"));
  }
}

TEST_F(RecoveryTest, ALostWorkersQueriesGoOnAtAReplicaFromTheirFirstToken) {
  const auto other = std::make_shared<FakeLink>();
  directory_.replica = TestBinding("math", {4, 8}, other);
  const auto a = Running(1);
  a->swapped = true;
  const uint64_t name = a->link_id();
  Recover({a}, SwapError(SwapReason::kLinkBroken, "gone"));
  EXPECT_EQ(a->state(), SequenceState::kWaiting);
  EXPECT_EQ(a->computed_tokens(), 0);
  EXPECT_EQ(a->binding()->link, other);
  EXPECT_EQ(directory_.avoided, 1u);
  EXPECT_THAT(link_->released(), ::testing::ElementsAre(name));
  EXPECT_EQ(a->UsageAt(kTestTime).failovers, 1);
  EXPECT_EQ(table_.startable(), 1);
}

TEST_F(RecoveryTest, WithoutAReplicaAQueryWaitsForOneABoundedTime) {
  const auto a = Running(1), b = Running(2);
  Recover({a, b}, SwapError(SwapReason::kShuttingDown, "expert math@1 over fake: it stops"));
  EXPECT_EQ(table_.startable(), 0);
  table_.Wake(kTestTime + absl::Seconds(1));
  recovery_->SeekReplicas(kTestTime + absl::Seconds(1));
  EXPECT_EQ(table_.startable(), 0);
  EXPECT_EQ(directory_.avoided, 0u);  // what failed before may be sound again
  recovery_->SeekReplicas(kTestTime + absl::Seconds(1));

  directory_.replica = TestBinding("math", {4, 8}, std::make_shared<FakeLink>());
  table_.Wake(kTestTime + absl::Seconds(2));
  recovery_->SeekReplicas(kTestTime + absl::Seconds(2));
  EXPECT_EQ(table_.startable(), 2);
  EXPECT_EQ(recorder_.Now().finishes, 0);
}

TEST_F(RecoveryTest, PatienceEndsWithEverythingNamed) {
  const auto a = Running(1);
  Recover({a}, SwapError(SwapReason::kLinkBroken,
                         "expert math@1 over fake, swap 12, layers [4, 8): connection reset"));
  EXPECT_EQ(recorder_.Now().finishes, 0);
  table_.Wake(kTestTime + absl::Seconds(10));
  recovery_->SeekReplicas(kTestTime + absl::Seconds(10));
  EXPECT_EQ(recorder_.Now().reason, FinishReason::kError);
  EXPECT_THAT(recorder_.Now().status,
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("math@1"), HasSubstr("fake"), HasSubstr("swap 12"),
                             HasSubstr("layers [4, 8)"), HasSubstr("connection reset"),
                             HasSubstr("in 10s"), HasSubstr("nobody holds it"))));
}

TEST_F(RecoveryTest, AQueryThatLosesWorkerAfterWorkerEnds) {
  directory_.replica = TestBinding("math", {4, 8}, std::make_shared<FakeLink>());
  const auto a = Running(1);
  for (int i = 0; i < kMaxLostWorkers; ++i) {
    Recover({a}, SwapError(SwapReason::kLinkBroken, "gone"));
    ASSERT_EQ(recorder_.Now().finishes, 0);
    table_.Admit(1, kTestTime);
  }
  Recover({a}, SwapError(SwapReason::kLinkBroken, "math@1: gone"));
  EXPECT_THAT(recorder_.Now().status,
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("math@1: gone"), HasSubstr("9 were lost"))));
}

TEST_F(RecoveryTest, WaitsForWorkersAddUpUntilTheQueryGetsOn) {
  const auto other = TestBinding("math", {4, 8}, std::make_shared<FakeLink>());
  const auto a = Running(1);
  absl::Time now = kTestTime;
  const auto wait_for_a_worker = [&](absl::Duration time) {
    directory_.replica = nullptr;
    Recover({a}, SwapError(SwapReason::kLinkBroken, "gone"), now);
    now += time;
    directory_.replica = other;
    table_.Wake(now);
    recovery_->SeekReplicas(now);
    now += absl::Minutes(1);  // until its turn comes: not counted
    if (!a->finished()) table_.Admit(1, now);
  };
  wait_for_a_worker(absl::Seconds(6));
  wait_for_a_worker(absl::Seconds(3));
  ASSERT_FALSE(a->finished());
  table_.BeginStep(*a, 1);
  table_.EndStep(*a, 1);
  wait_for_a_worker(absl::Seconds(6));
  ASSERT_FALSE(a->finished());
  directory_.replica = nullptr;
  Recover({a}, SwapError(SwapReason::kLinkBroken, "gone"), now);
  recovery_->SeekReplicas(now + absl::Seconds(4));
  EXPECT_EQ(recorder_.Now().reason, FinishReason::kError);
}

TEST_F(RecoveryTest, AStepThatNobodyTakesIsTriedAgainForAsLongAsItsReasonAllows) {
  struct Case {
    SwapReason reason;
    absl::Duration patience;
  };
  for (const Case& each : {Case{SwapReason::kQueueFull, options_.room_patience},
                           Case{SwapReason::kLinkBroken, options_.replica_patience}}) {
    AnswerRecorder recorder;
    SequenceTable table(64, 4, nullptr);
    Recovery recovery(options_, &table, nullptr);
    const auto a = TestSequence(1, 4, recorder);
    table.Enqueue(a);
    table.Admit(1, kTestTime);
    // It waited so long within the step.
    const auto fail_after = [&](absl::Duration waited) {
      table.Wake(absl::InfiniteFuture());
      table.BeginStep(*a, 1);
      recovery.TryStepAgain({a, SwapError(each.reason, "FFN expert 3")}, waited, kTestTime);
    };
    fail_after(absl::ZeroDuration());
    EXPECT_EQ(table.runnable(), 0);
    EXPECT_EQ(a->state(), SequenceState::kRunnable);  // its KV stays
    fail_after(each.patience / 2);
    EXPECT_EQ(recorder.Now().finishes, 0);
    // It gets on by a step: the wait was over.
    table.Wake(absl::InfiniteFuture());
    table.BeginStep(*a, 1);
    table.EndStep(*a, 1);
    fail_after(each.patience / 2);
    EXPECT_EQ(recorder.Now().finishes, 0);
    fail_after(each.patience / 2);
    EXPECT_EQ(recorder.Now().reason, FinishReason::kError);
    EXPECT_TRUE(recorder.Now().status.GetPayload(kRetryAfterPayload).has_value());
  }
}

TEST_F(RecoveryTest, AQueryThatEndsWhileItSeeksIsForgotten) {
  const auto a = Running(1);
  Recover({a}, SwapError(SwapReason::kLinkBroken, "gone"));
  table_.Finish(a, FinishReason::kCancelled, absl::CancelledError("x"), kTestTime);
  recovery_->SeekReplicas(kTestTime + absl::Seconds(20));
  EXPECT_EQ(recorder_.Now().finishes, 1);
}

TEST_F(RecoveryTest, AFullQueueIsAskedAgainAfterAPauseAndAllKvStays) {
  for (const SwapReason reason : {SwapReason::kQueueFull, SwapReason::kLinkFull}) {
    const auto a = Running(reason == SwapReason::kQueueFull ? 1 : 2);
    a->swapped = true;
    EXPECT_OK(table_.GrowPages(*a, 4));
    table_.BeginStep(*a, 1);
    table_.EndStep(*a, 2);
    Recover({a}, SwapError(reason, "full"));
    EXPECT_EQ(a->state(), SequenceState::kRunnable);
    EXPECT_EQ(table_.runnable(), 0);
    EXPECT_FALSE(a->pages().empty());
    EXPECT_THAT(link_->released(), IsEmpty());
    table_.Wake(a->not_before);
    EXPECT_EQ(table_.runnable(), 1);
    table_.Finish(a, FinishReason::kLength, absl::OkStatus(), kTestTime);
    link_ = std::make_shared<FakeLink>();
    binding_ = TestBinding("math", {4, 8}, link_);
  }
}

TEST_F(RecoveryTest, AQueryThatIsPutOffGoesWhereThereIsRoom) {
  const auto other = std::make_shared<FakeLink>();
  for (const SwapReason reason : {SwapReason::kQueueFull, SwapReason::kNoPages}) {
    directory_.replica = nullptr;
    const uint64_t handle = static_cast<uint64_t>(reason);
    const auto a = Running(handle);
    Recover({a}, SwapError(reason, "full"));
    ASSERT_EQ(a->state(), SequenceState::kWaiting);
    recovery_->ChooseWorker(*a);
    EXPECT_EQ(directory_.avoided, 1u);
    EXPECT_EQ(a->binding()->link, link_);  // there is no other
    directory_.replica = TestBinding("math", {4, 8}, other);
    recovery_->ChooseWorker(*a);
    EXPECT_EQ(a->binding()->link, other);
    EXPECT_EQ(a->UsageAt(kTestTime).failovers, 0);
    table_.Finish(a, FinishReason::kLength, absl::OkStatus(), kTestTime);
  }
}

TEST_F(RecoveryTest, AQueryIsNotPutOffToAWorkerOfOtherNumerics) {
  auto other =
      std::make_shared<ExpertBinding>(*TestBinding("math", {4, 8}, std::make_shared<FakeLink>()));
  other->numerics = "another";
  directory_.replica = other;
  const auto a = Running(1);
  NoPages({a});
  recovery_->ChooseWorker(*a);
  EXPECT_EQ(a->binding()->link, link_);
  recovery_->ChooseWorker(*a);
  EXPECT_EQ(directory_.avoided, 0u);  // those of its own class may have room by now
}

TEST_F(RecoveryTest, AQueryThatComesWhileNoWorkerServesItsExpertWaitsForOne) {
  auto nowhere = std::make_shared<ExpertBinding>(*binding_);
  nowhere->link = nullptr;
  binding_ = nowhere;
  const auto arrive = [&](uint64_t handle) {
    auto sequence = TestSequence(handle, 4, recorder_, binding_);
    table_.Enqueue(sequence);
    recovery_->AwaitWorker(sequence, kTestTime);
    recovery_->SeekReplicas(kTestTime);
    return sequence;
  };
  const auto a = arrive(1), b = arrive(2);
  EXPECT_EQ(table_.startable(), 0);
  table_.Finish(a, FinishReason::kCancelled, absl::CancelledError("x"), kTestTime);
  directory_.replica = TestBinding("math", {4, 8}, link_);
  table_.Wake(kTestTime + absl::Seconds(1));
  recovery_->SeekReplicas(kTestTime + absl::Seconds(1));
  EXPECT_EQ(table_.startable(), 1);
  EXPECT_EQ(b->binding()->link, link_);
  EXPECT_EQ(b->UsageAt(kTestTime).failovers, 0);

  directory_.replica = nullptr;
  AnswerRecorder late;
  const auto c = TestSequence(3, 4, late, nowhere);
  table_.Enqueue(c);
  recovery_->AwaitWorker(c, kTestTime);
  recovery_->SeekReplicas(kTestTime + absl::Seconds(10));
  EXPECT_THAT(late.Now().status,
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("nobody holds it"), HasSubstr("no worker came in 10s"))));
}

TEST_F(RecoveryTest, AQueueThatStaysFullEndsTheQueryWithARetryHint) {
  const auto a = Running(1);
  table_.BeginStep(*a, 1);
  table_.EndStep(*a, 2);
  const absl::Time begin = kTestTime;
  absl::Time now = begin;
  while (!a->finished() && now < begin + absl::Minutes(1)) {
    table_.Wake(now);
    Recover({a}, SwapError(SwapReason::kQueueFull, "full"), now);
    now = std::max(now, a->not_before);
  }
  EXPECT_GE(now - begin, absl::Seconds(30));
  EXPECT_LT(now - begin, absl::Seconds(32));
  EXPECT_THAT(recorder_.Now().status,
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("full")));
  EXPECT_TRUE(recorder_.Now().status.GetPayload(kRetryAfterPayload).has_value());
}

TEST_F(RecoveryTest, TheTimeUntilAQuerysTurnComesIsNotItsPatience) {
  const auto a = Running(1);
  for (int i = 0; i < 4; ++i) {
    Recover({a}, SwapError(SwapReason::kQueueFull, "full"), kTestTime + absl::Minutes(i));
    ASSERT_FALSE(a->finished());
    table_.Admit(1, kTestTime + absl::Minutes(i));
  }
}

TEST_F(RecoveryTest, AFullExpertPreemptsTheYoungerHalf) {
  const auto a = Running(1), b = Running(2), c = Running(3);
  NoPages({c, a, b});
  EXPECT_EQ(a->state(), SequenceState::kRunnable);
  EXPECT_EQ(b->state(), SequenceState::kWaiting);
  EXPECT_EQ(c->state(), SequenceState::kWaiting);
  EXPECT_GT(b->not_before, kTestTime);
}

TEST_F(RecoveryTest, KvThatIsThereIsGivenUpForOneQueryAtATime) {
  const auto a = Running(1), b = Running(2), c = Running(3), d = Running(4), e = Running(5);
  for (const auto& holder : {a, b, c}) {
    table_.BeginStep(*holder, 1);
    table_.EndStep(*holder, 2);
  }
  NoPages({a, b, c, d, e});
  EXPECT_EQ(c->state(), SequenceState::kRunnable);
  EXPECT_EQ(d->state(), SequenceState::kWaiting);
  EXPECT_EQ(e->state(), SequenceState::kWaiting);
  NoPages({a, b, c});
  EXPECT_EQ(b->state(), SequenceState::kRunnable);
  EXPECT_EQ(c->state(), SequenceState::kWaiting);
}

TEST_F(RecoveryTest, PausesGrowUntilTheQueryMakesProgress) {
  const auto a = Running(1), b = Running(2);
  absl::Duration last;
  for (int i = 0; i < 3; ++i) {
    NoPages({a, b});
    EXPECT_GT(b->not_before - kTestTime, last);
    last = b->not_before - kTestTime;
    table_.Admit(2, kTestTime);
  }
  table_.Emit(*b, {}, kTestTime);
  NoPages({a, b});
  EXPECT_LT(b->not_before - kTestTime, last);
}

TEST_F(RecoveryTest, AQueryThatEndsMakesRoomForAsManyThatWerePutOffAsMayFit) {
  for (const int64_t tokens : {4, 7, 8}) {
    SequenceTable table(64, 4, nullptr);
    Recovery recovery(options_, &table, &directory_);
    const auto a = TestSequence(1, tokens, recorder_, binding_);
    const auto b = TestSequence(2, 4, recorder_, binding_);
    const auto c = TestSequence(3, 4, recorder_, binding_);
    const auto d = TestSequence(4, 4, recorder_, binding_);
    for (const auto& sequence : {a, b, c, d}) {
      table.Enqueue(sequence);
      table.Admit(sequence->handle(), kTestTime);
      table.BeginStep(*sequence, 1);
    }
    table.EndStep(*a, tokens);
    a->swapped = true;
    const absl::Status no_pages = SwapError(SwapReason::kNoPages, "no pages");
    recovery.Recover({{b, no_pages}, {c, no_pages}, {d, no_pages}}, kTestTime);
    EXPECT_EQ(table.startable(), 0);
    table.Finish(a, FinishReason::kLength, absl::OkStatus(), kTestTime);
    EXPECT_EQ(c->not_before, absl::InfinitePast());
    EXPECT_EQ(table.startable(), tokens == 8 ? 2 : 1);
  }
}

TEST_F(RecoveryTest, AQueryAloneInItsSwapTakesTheRoomOfAYoungerOne) {
  const auto a = Running(1), b = Running(2);
  NoPages({a});
  EXPECT_EQ(a->state(), SequenceState::kRunnable);
  EXPECT_EQ(b->state(), SequenceState::kWaiting);
}

TEST_F(RecoveryTest, TheYoungestWaitsForTheOthersHoweverLongTheyTake) {
  const auto a = Running(1), b = Running(2);
  table_.BeginStep(*a, 1);
  table_.EndStep(*a, 2);
  a->swapped = true;
  absl::Time now = kTestTime;
  for (int i = 0; i < 100; ++i) {
    NoPages({b}, now);
    EXPECT_EQ(a->state(), SequenceState::kRunnable);
    ASSERT_EQ(b->state(), SequenceState::kWaiting);
    now = b->not_before;
    table_.Admit(2, now);
  }
  EXPECT_GT(now, kTestTime + absl::Minutes(1));
  // Alone it has its patience yet.
  table_.Finish(a, FinishReason::kLength, absl::OkStatus(), now);
  NoPages({b}, now);
  EXPECT_EQ(b->state(), SequenceState::kWaiting);
}

TEST_F(RecoveryTest, QueriesThatHoldNothingDoNotWaitForEachOtherForGood) {
  const auto a = Running(1), b = Running(2);
  absl::Time now = kTestTime;
  for (int i = 0; !a->finished() && i < 1000; ++i) {
    NoPages({a}, now);  // the younger one, though it holds nothing, gives way
    if (b->state() == SequenceState::kWaiting) {
      now = b->not_before;
      table_.Admit(2, now);
    }
    NoPages({a, b}, now);
    for (const auto& each : {a, b}) {
      if (each->state() != SequenceState::kWaiting) continue;
      now = std::max(now, each->not_before);
      table_.Admit(each->handle(), now);
    }
    if (b->finished()) break;
  }
  EXPECT_TRUE(b->finished());
  EXPECT_LT(now, kTestTime + absl::Minutes(2));
}

TEST_F(RecoveryTest, RoomThatIsFreedIsUsedWhereItIs) {
  const auto a = Running(1), b = Running(2);
  a->swapped = true;
  NoPages({b});
  ASSERT_EQ(b->state(), SequenceState::kWaiting);
  table_.Finish(a, FinishReason::kCancelled, absl::CancelledError("x"), kTestTime);  // no row yet
  EXPECT_EQ(table_.startable(), 1);
  recovery_->ChooseWorker(*b);
  EXPECT_EQ(directory_.avoided, 0u);
}

TEST_F(RecoveryTest, QueriesThatAwaitAWorkerDoNotFillTheQueueOfOthers) {
  options_.max_waiting = 8;
  Recovery recovery(options_, &table_, &directory_);
  auto nowhere = std::make_shared<ExpertBinding>(*binding_);
  nowhere->link = nullptr;
  std::vector<std::shared_ptr<Sequence>> waiting;
  for (uint64_t handle = 1; handle <= 3; ++handle) {
    waiting.push_back(TestSequence(handle, 4, recorder_, nowhere));
    table_.Enqueue(waiting.back());
    recovery.AwaitWorker(waiting.back(), kTestTime);
  }
  EXPECT_FALSE(waiting[1]->finished());
  EXPECT_TRUE(waiting[2]->finished());
  EXPECT_THAT(recorder_.Now().status,
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("math@1"), HasSubstr("2 queries wait for one already"))));
  EXPECT_TRUE(recorder_.Now().status.GetPayload(kRetryAfterPayload).has_value());
}

TEST_F(RecoveryTest, WhatNoWaitWillChangeIsSaidAtOnce) {
  directory_.error = absl::FailedPreconditionError("it was made for another base");
  auto nowhere = std::make_shared<ExpertBinding>(*binding_);
  nowhere->link = nullptr;
  const auto a = TestSequence(1, 4, recorder_, nowhere);
  table_.Enqueue(a);
  recovery_->AwaitWorker(a, kTestTime);
  EXPECT_THAT(recorder_.Now().status,
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("another base")));
}

TEST_F(RecoveryTest, AQueryThatNeverFitsEndsAfterABoundedTime) {
  const auto a = Running(1);
  absl::Time now = kTestTime;
  while (!a->finished() && now < kTestTime + absl::Minutes(1)) {
    NoPages({a}, now);
    if (a->finished()) break;
    ASSERT_EQ(a->state(), SequenceState::kWaiting);
    now = a->not_before;
    table_.Admit(1, now);
  }
  EXPECT_GE(now, kTestTime + absl::Seconds(30));
  EXPECT_EQ(recorder_.Now().reason, FinishReason::kError);
  EXPECT_THAT(recorder_.Now().status,
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("no pages")));
}

TEST_F(RecoveryTest, LostKvIsComputedAgainABoundedNumberOfTimes) {
  const auto a = Running(1);
  const absl::Status lost = SwapError(SwapReason::kKvLost, "no KV");
  for (int i = 0; i < kMaxLostKvRetries; ++i) {
    Recover({a}, lost);
    ASSERT_EQ(a->state(), SequenceState::kWaiting);
    EXPECT_EQ(a->not_before, absl::InfinitePast());
    table_.Admit(1, kTestTime);
  }
  Recover({a}, lost);
  EXPECT_THAT(recorder_.Now().status, StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(RecoveryTest, QueriesThatEndedMeanwhileArePassedOver) {
  const auto a = Running(1);
  table_.BeginStep(*a, 1);
  table_.Finish(a, FinishReason::kCancelled, absl::CancelledError("x"), kTestTime);
  recovery_->Recover({{a, SwapError(SwapReason::kNoPages, "no pages")}}, kTestTime);
  EXPECT_EQ(recorder_.Now().finishes, 1);
}

}  // namespace
}  // namespace ccoe::engine
