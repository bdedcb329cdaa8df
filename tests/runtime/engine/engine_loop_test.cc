// SPDX-License-Identifier: Apache-2.0
// The loop with links that do what they are told: batching, patience, bad answers, stopping.
#include "runtime/engine/engine_loop.h"

#include <limits>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/engine_cluster.h"
#include "tests/testing/eventually.h"
#include "tests/testing/fake_link.h"
#include "tests/testing/recording_sink.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_sequence.h"

namespace ccoe::engine {
namespace {

using ::ccoe::testing::AnswerRecorder;
using ::ccoe::testing::FakeLink;
using ::ccoe::testing::GoldenBackbone;
using ::ccoe::testing::RecordedAnswer;
using ::ccoe::testing::StatusIs;
using ::ccoe::testing::TestBinding;
using ::ccoe::testing::TestInit;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr int64_t kPages = 16;

// A link whose answers are of the wrong size, or hold NaN.
class BrokenLink final : public exchange::ActivationLink {
 public:
  explicit BrokenLink(std::vector<float> rows) : rows_(std::move(rows)) {}
  void Send(exchange::Envelope envelope, exchange::SwapCallback done) override {
    for (const exchange::Swap& swap : envelope.swaps) {
      exchange::SwapResult result;
      result.rows = rows_;
      done(swap.header.id, std::move(result));
    }
  }
  void CancelSwaps(std::vector<uint64_t>) override {}
  void ReleaseSequence(uint64_t) override {}
  bool healthy() const override { return true; }
  absl::Status Health() const override { return absl::OkStatus(); }
  std::string WhereIs(uint64_t) const override { return ""; }
  void Close() override {}
  std::string Name() const override { return "broken"; }

 private:
  const std::vector<float> rows_;
};

class EngineLoopTest : public ::testing::Test {
 protected:
  void Start() {
    options_.page_tokens = 16;
    auto backbone = GoldenBackbone("ccoe/backbone", -1, device_);
    ASSERT_OK(backbone);
    auto runner =
        ModelRunner::Create(*std::move(backbone), testing::OpsOver(device_, &team_), kPages, 16);
    ASSERT_OK(runner);
    loop_ = std::make_unique<EngineLoop>(*std::move(runner), queue_, EngineLoop::Directories(),
                                         options_, kPages);
    thread_ = std::thread([this] { loop_->Run(); });
  }
  void Stop() {
    queue_->Stop();
    if (thread_.joinable()) thread_.join();
  }
  void TearDown() override { Stop(); }

  uint64_t Submit(AnswerRecorder& recorder, std::shared_ptr<const ExpertBinding> binding = nullptr,
                  int64_t max_tokens = 3) {
    SequenceInit init = TestInit(0, 4, recorder, max_tokens);
    init.query.sampling.temperature = 0.0f;
    init.binding = std::move(binding);
    const auto handle = queue_->Submit(std::move(init));
    EXPECT_OK(handle);
    return *handle;
  }

  ThreadTeam team_{1};
  testing::TaggedDevice tagged_;
  testing::TaggedDevice* device_ = nullptr;  // null: the CPU
  EngineOptions options_;
  std::shared_ptr<RequestQueue> queue_ = std::make_shared<RequestQueue>(100, 1);
  std::unique_ptr<EngineLoop> loop_;
  std::thread thread_;
};

TEST_F(EngineLoopTest, StopCancelsWaitingRunningAndWhatIsInFlight) {
  const auto link = std::make_shared<FakeLink>();
  link->Hold();
  options_.max_running = 1;
  Start();
  AnswerRecorder in_flight, waiting;
  Submit(in_flight, TestBinding("a", {4, 8}, link));
  ASSERT_TRUE(link->AwaitHeld(1));
  Submit(waiting);
  Stop();
  EXPECT_THAT(in_flight.Now().status, StatusIs(absl::StatusCode::kCancelled, HasSubstr("stops")));
  EXPECT_THAT(waiting.Now().status, StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(link->released(), SizeIs(1));
  link->LetGo();  // the late answer finds nobody
}

TEST_F(EngineLoopTest, SequencesOfSeveralExpertsShareTheLayersBelow) {
  // Both answers of a step come together: the step is over once.
  struct StepCounter final : EngineObserver {
    void OnStep(int64_t rows, int64_t sequences, absl::Duration) override {
      ++steps;
      this->rows += rows;
      EXPECT_EQ(sequences, 8);
    }
    int steps = 0;
    int64_t rows = 0;
  } counter;
  options_.observer = &counter;
  const auto link = std::make_shared<FakeLink>();
  std::vector<AnswerRecorder> recorders(8);
  for (int i = 0; i < 8; ++i)
    Submit(recorders[i], TestBinding(i % 2 == 0 ? "a" : "b", {4, 8}, link), 5);
  Start();  // all are there before the first step
  for (const AnswerRecorder& recorder : recorders) EXPECT_THAT(recorder.Wait().tokens, SizeIs(5));
  Stop();
  // Five tokens each: five steps of all eight, each with one swap an expert.
  EXPECT_EQ(queue_->Load().steps, 5);
  EXPECT_EQ(counter.steps, 5);
  EXPECT_EQ(counter.rows, 8 * (4 + 4));
  EXPECT_THAT(link->headers(), SizeIs(10));
  for (const auto& header : link->headers()) EXPECT_THAT(header.layer()->sequences, SizeIs(4));
  EXPECT_THAT(link->envelopes(), ::testing::Each(2u));  // both experts are at one worker
}

TEST_F(EngineLoopTest, AnExpertThatHangsDoesNotHoldUpOthers) {
  const auto link = std::make_shared<FakeLink>();
  link->Hold();
  options_.step_patience = absl::Milliseconds(20);
  Start();
  AnswerRecorder stuck, stuck_too, free;
  Submit(stuck, TestBinding("a", {4, 8}, link));
  ASSERT_TRUE(link->AwaitHeld(1));
  Submit(stuck_too, TestBinding("a", {4, 8}, link));
  Submit(free);
  EXPECT_THAT(free.Wait().tokens, SizeIs(3));
  EXPECT_EQ(stuck.Now().finishes, 0);
  link->LetGo();
  EXPECT_THAT(stuck.Wait().tokens, SizeIs(3));
  EXPECT_THAT(stuck_too.Wait().tokens, SizeIs(3));
}

class HungNames final : public EngineObserver {
 public:
  void OnHungSwap(const std::string& what) override {
    absl::MutexLock lock(&mutex_);
    names_.push_back(what);
  }
  // Waits for the first.
  std::vector<std::string> Wait() {
    absl::MutexLock lock(&mutex_);
    const auto any = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !names_.empty(); };
    mutex_.AwaitWithTimeout(absl::Condition(&any), absl::Minutes(1));
    return names_;
  }

 private:
  absl::Mutex mutex_;
  std::vector<std::string> names_ ABSL_GUARDED_BY(mutex_);
};

TEST_F(EngineLoopTest, AHungSwapIsNamedOnceWithWorkerStepLayersAndWhereItIs) {
  const auto link = std::make_shared<FakeLink>();
  link->Hold();
  HungNames names;
  options_.observer = &names;
  options_.hung_after = absl::Milliseconds(10);
  Start();
  AnswerRecorder stuck;
  Submit(stuck, TestBinding("a", {4, 8}, link));
  EXPECT_THAT(names.Wait(), ::testing::ElementsAre(AllOf(
                                HasSubstr("a@1"), HasSubstr("worker-of-a"), HasSubstr("step 1"),
                                HasSubstr("layers [4, 8)"), HasSubstr("held by the test"))));
  link->LetGo();
  EXPECT_THAT(stuck.Wait().tokens, SizeIs(3));
  Stop();
}

TEST_F(EngineLoopTest, ALinkThatBreaksEndsTheQueryWhereThereAreNoReplicas) {
  const auto link = std::make_shared<FakeLink>();
  link->Hold();
  Start();
  AnswerRecorder stuck;
  Submit(stuck, TestBinding("a", {4, 8}, link));
  ASSERT_TRUE(link->AwaitHeld(1));
  link->Break();
  const RecordedAnswer answer = stuck.Wait();
  EXPECT_EQ(answer.reason, FinishReason::kError);
  EXPECT_THAT(answer.status,
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("a@1"), HasSubstr("layers [4, 8)"),
                             HasSubstr("the peer died"), HasSubstr("no other worker"))));
}

TEST_F(EngineLoopTest, ADeadDeviceEndsEverythingAndRefusesWhatComes) {
  device_ = &tagged_;
  Start();
  AnswerRecorder before;
  Submit(before);
  EXPECT_THAT(before.Wait().tokens, SizeIs(3));
  EXPECT_OK(queue_->Health());
  tagged_.FailFromNowOn(absl::InternalError("the device fell off the bus"));
  AnswerRecorder lost;
  Submit(lost);
  EXPECT_THAT(lost.Wait().status,
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("fell off the bus")));
  ASSERT_TRUE(ccoe::testing::Eventually([&] { return !queue_->Health().ok(); }));
  AnswerRecorder refused;
  EXPECT_THAT(queue_->Submit(TestInit(0, 4, refused)),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("fell off the bus")));
  Stop();
}

TEST_F(EngineLoopTest, CancellingWhatIsInFlightAnswersAtOnceAndDropsTheLateRows) {
  const auto link = std::make_shared<FakeLink>();
  link->Hold();
  Start();
  AnswerRecorder gone, stays;
  const uint64_t handle = Submit(gone, TestBinding("a", {2, 5}, link));
  Submit(stays, TestBinding("a", {2, 5}, link));
  ASSERT_TRUE(link->AwaitHeld(1));
  queue_->Cancel(handle);
  EXPECT_THAT(gone.Wait().status, StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(gone.Now().reason, FinishReason::kCancelled);
  link->LetGo();
  EXPECT_THAT(stays.Wait().tokens, SizeIs(3));
  EXPECT_EQ(gone.Now().finishes, 1);
  EXPECT_TRUE(gone.Now().tokens.empty());
  Stop();
  EXPECT_EQ(queue_->Load().kv_tokens_used, 0);
}

TEST_F(EngineLoopTest, AnAnswerOfAWrongSizeIsAnErrorOfThatQueryAlone) {
  Start();
  AnswerRecorder broken, fine;
  Submit(broken,
         TestBinding("a", {4, 8}, std::make_shared<BrokenLink>(std::vector<float>(7, 1.0f))));
  Submit(fine);
  EXPECT_THAT(
      broken.Wait().status,
      StatusIs(absl::StatusCode::kInternal,
               AllOf(HasSubstr("a@1"), HasSubstr("expected 64 values"), HasSubstr("found 7"))));
  EXPECT_THAT(fine.Wait().tokens, SizeIs(3));
}

TEST_F(EngineLoopTest, NanFromAnExpertIsAnErrorOfThatQueryAlone) {
  Start();
  AnswerRecorder broken, fine;
  const std::vector<float> rows(64, std::numeric_limits<float>::quiet_NaN());
  Submit(broken, TestBinding("a", {4, 8}, std::make_shared<BrokenLink>(rows)));
  Submit(fine);
  EXPECT_THAT(broken.Wait().status, StatusIs(absl::StatusCode::kInternal, HasSubstr("finite")));
  EXPECT_THAT(fine.Wait().tokens, SizeIs(3));
}

}  // namespace
}  // namespace ccoe::engine
