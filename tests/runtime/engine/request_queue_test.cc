#include "runtime/engine/request_queue.h"

#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/recording_sink.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_sequence.h"

namespace ccoe::engine {
namespace {

using ::ccoe::testing::AnswerRecorder;
using ::ccoe::testing::kTestTime;
using ::ccoe::testing::StatusIs;
using ::ccoe::testing::TestInit;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class RequestQueueTest : public ::testing::Test {
 protected:
  absl::StatusOr<uint64_t> Submit() { return queue_.Submit(TestInit(0, 3, recorder_)); }
  RequestQueue::Events TakeNow() { return queue_.Take(absl::ZeroDuration()); }
  void Finish(std::vector<uint64_t> handles, absl::Time now = kTestTime) {
    RequestQueue::Report report;
    report.finished = std::move(handles);
    queue_.Publish(report, now);
  }

  AnswerRecorder recorder_;
  RequestQueue queue_{4, 99};
};

TEST_F(RequestQueueTest, HandlesRiseInOrderOfSubmission) {
  ASSERT_OK_AND_ASSIGN(const uint64_t first, Submit());
  ASSERT_OK_AND_ASSIGN(const uint64_t second, Submit());
  EXPECT_LT(first, second);
  const RequestQueue::Events events = TakeNow();
  ASSERT_EQ(events.submissions.size(), 2u);
  EXPECT_EQ(events.submissions[0].handle, first);
  EXPECT_NE(events.submissions[0].seed, events.submissions[1].seed);
  EXPECT_THAT(TakeNow().submissions, IsEmpty());
}

TEST_F(RequestQueueTest, AGivenSeedIsKept) {
  SequenceInit init = TestInit(0, 3, recorder_);
  init.query.sampling.seed = 5;
  EXPECT_OK(queue_.Submit(std::move(init)));
  EXPECT_EQ(TakeNow().submissions[0].seed, 5u);
}

TEST_F(RequestQueueTest, AFullQueueSaysWhenToRetry) {
  for (int i = 0; i < 4; ++i) EXPECT_OK(Submit());
  EXPECT_THAT(Submit(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("4 queries wait"), HasSubstr("retry in about 1000 ms"))));
  TakeNow();
  EXPECT_THAT(Submit(),
              StatusIs(absl::StatusCode::kResourceExhausted));  // taken, but still waiting
  RequestQueue::Report report;
  report.fresh_waiting = 3;
  queue_.Publish(report, kTestTime);
  EXPECT_OK(Submit());
}

TEST_F(RequestQueueTest, TheRetryHintFollowsTheThroughput) {
  Finish({100}, kTestTime);
  Finish({101, 102}, kTestTime + absl::Seconds(6));
  for (int i = 0; i < 4; ++i) EXPECT_OK(Submit());
  EXPECT_THAT(Submit(),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("retry in about 3000 ms")));
}

TEST_F(RequestQueueTest, CancelsOfLivingHandlesAloneArePassedOnAndOnce) {
  ASSERT_OK_AND_ASSIGN(const uint64_t handle, Submit());
  queue_.Cancel(handle);
  queue_.Cancel(handle);
  queue_.Cancel(handle + 1);
  EXPECT_THAT(TakeNow().cancels, ElementsAre(handle));
  Finish({handle});
  queue_.Cancel(handle);
  EXPECT_THAT(TakeNow().cancels, IsEmpty());
}

TEST_F(RequestQueueTest, TakeWaitsForWhatComesIn) {
  std::thread sender([this] { queue_.Answer({7, absl::UnavailableError("gone")}); });
  const RequestQueue::Events events = queue_.Take(absl::InfiniteDuration());
  sender.join();
  ASSERT_EQ(events.answers.size(), 1u);
  EXPECT_EQ(events.answers[0].swap_id, 7u);
}

TEST_F(RequestQueueTest, StopStaysAndRefusesWhatComesLater) {
  queue_.Stop();
  EXPECT_TRUE(TakeNow().stop);
  EXPECT_TRUE(queue_.Take(absl::InfiniteDuration()).stop);
  EXPECT_THAT(Submit(), StatusIs(absl::StatusCode::kUnavailable));
  queue_.Answer({1, absl::UnavailableError("late")});
  EXPECT_THAT(TakeNow().answers, IsEmpty());
}

TEST_F(RequestQueueTest, DrainRefusesNewQueriesAndWaitsForTheOthers) {
  ASSERT_OK_AND_ASSIGN(const uint64_t handle, Submit());
  EXPECT_FALSE(queue_.Drain(absl::Now()));
  EXPECT_THAT(Submit(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("draining")));
  std::thread finisher([this, handle] { Finish({handle}); });
  EXPECT_TRUE(queue_.Drain(absl::InfiniteFuture()));
  finisher.join();
}

TEST_F(RequestQueueTest, LoadCountsWhatWasNotTakenYet) {
  EXPECT_OK(Submit());
  EXPECT_EQ(queue_.Load().waiting, 1);
  TakeNow();
  RequestQueue::Report report;
  report.load.waiting = 1;
  report.load.running = 5;
  queue_.Publish(report, kTestTime);
  EXPECT_OK(Submit());
  EXPECT_EQ(queue_.Load().waiting, 2);
  EXPECT_EQ(queue_.Load().running, 5);
}

}  // namespace
}  // namespace ccoe::engine
