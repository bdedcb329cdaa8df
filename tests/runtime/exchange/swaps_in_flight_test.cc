#include "runtime/exchange/swaps_in_flight.h"

#include <memory>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/exchange/swap_recorder.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::exchange {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

constexpr int64_t kHidden = 4;

StepHeader Header(uint64_t step) {
  return MakeHeader(step, {{1, 0, 2, ReturnRows::kLast}}, kHidden);
}

SwapResult RightSize() {
  SwapResult result;
  result.rows.resize(kHidden);
  return result;
}

absl::Time Soon() { return absl::Now() + kTestPatience; }

class SwapsInFlightTest : public ::testing::Test {
 protected:
  SwapsInFlight::Options Options() {
    SwapsInFlight::Options options;
    options.link_name = "link 7";
    options.max_swaps = 2;
    options.on_closed = [this] { closed_.Notify(); };
    return options;
  }

  absl::Notification closed_;
  SwapRecorder recorder_;
  SwapsInFlight swaps_{Options()};
};

TEST_F(SwapsInFlightTest, CheckSwapComparesHeaderAndRows) {
  const std::vector<float> rows(8);
  EXPECT_OK(CheckSwap(Header(1), kernels::F32Matrix(rows.data(), 2, kHidden), kHidden, {}));
  EXPECT_THAT(CheckSwap(Header(1), kernels::F32Matrix(rows.data(), 1, kHidden), kHidden, {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("expected [2, 4] f32, found [1, 4] f32")));
  EXPECT_THAT(
      CheckSwap(Header(1),
                kernels::ConstMatrix{rows.data(), kernels::DType::kBF16, 2, kHidden, kHidden},
                kHidden, {}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found [2, 4] bf16")));
  EXPECT_THAT(CheckSwap(Header(1), kernels::F32Matrix(rows.data(), 2, kHidden), 8, {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("hidden_size")));
}

TEST_F(SwapsInFlightTest, AnAnswerGoesToItsSwapOnTheAnswerersThread) {
  bool called = false;
  ASSERT_TRUE(swaps_.Begin(Header(1), Soon(),
                           [&](absl::StatusOr<SwapResult> result) { called = result.ok(); }));
  EXPECT_OK(swaps_.Answer(1, RightSize()));
  EXPECT_TRUE(called);
}

TEST_F(SwapsInFlightTest, AnErrorNamesTheLink) {
  ASSERT_TRUE(swaps_.Begin(Header(1), Soon(), recorder_.Keep(1)));
  EXPECT_OK(swaps_.Answer(1, absl::NotFoundError("no math@1")));
  EXPECT_THAT(recorder_.Await(1),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("link 7: no math@1")));
}

TEST_F(SwapsInFlightTest, AnAnswerGivenTwiceOrToNobodyBreaksTheProtocol) {
  ASSERT_TRUE(swaps_.Begin(Header(1), Soon(), recorder_.Keep(1)));
  EXPECT_OK(swaps_.Answer(1, RightSize()));
  EXPECT_THAT(
      swaps_.Answer(1, RightSize()),
      StatusIs(absl::StatusCode::kInternal, HasSubstr("answer to step 1, which is not in flight")));
  EXPECT_THAT(swaps_.Answer(9, RightSize()), StatusIs(absl::StatusCode::kInternal));
  EXPECT_EQ(recorder_.calls(1), 1);
}

TEST_F(SwapsInFlightTest, AResultOfTheWrongSizeBreaksTheProtocolAndEndsItsSwap) {
  ASSERT_TRUE(swaps_.Begin(Header(1), Soon(), recorder_.Keep(1)));
  SwapResult result = RightSize();
  result.captured.resize(3);
  EXPECT_THAT(swaps_.Answer(1, result), StatusIs(absl::StatusCode::kInternal));
  EXPECT_THAT(recorder_.Await(1),
              StatusIs(absl::StatusCode::kInternal,
                       HasSubstr("expected 4 row values and 0 captured ones, found 4 and 3")));
}

TEST_F(SwapsInFlightTest, AnswerLaterClosesOnABrokenProtocol) {
  ASSERT_TRUE(swaps_.Begin(Header(1), Soon(), recorder_.Keep(1)));
  swaps_.AnswerLater(5, RightSize());
  EXPECT_THAT(recorder_.Await(1), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("step 5")));
  EXPECT_TRUE(closed_.WaitForNotificationWithTimeout(kTestPatience));
}

TEST_F(SwapsInFlightTest, RefusesBeyondTheLimitAndStepsThatDoNotRise) {
  ASSERT_TRUE(swaps_.Begin(Header(3), Soon(), recorder_.Keep(3)));
  EXPECT_FALSE(swaps_.Begin(Header(2), Soon(), recorder_.Keep(2)));
  EXPECT_THAT(recorder_.Await(2),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("above 3")));
  ASSERT_TRUE(swaps_.Begin(Header(4), Soon(), recorder_.Keep(4)));
  EXPECT_FALSE(swaps_.Begin(Header(5), Soon(), recorder_.Keep(5)));
  EXPECT_THAT(recorder_.Await(5), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_OK(swaps_.Answer(3, RightSize()));
  EXPECT_TRUE(swaps_.Begin(Header(6), Soon(), recorder_.Keep(6)));
}

TEST_F(SwapsInFlightTest, AMissedDeadlineClosesAndLateAnswersAreDropped) {
  ASSERT_TRUE(swaps_.Begin(Header(1), Soon(), recorder_.Keep(1)));
  ASSERT_TRUE(swaps_.Begin(Header(2), absl::Now() + absl::Milliseconds(20), recorder_.Keep(2)));
  EXPECT_THAT(recorder_.Await(2),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("step 2")));
  EXPECT_THAT(recorder_.Await(1), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_TRUE(closed_.WaitForNotificationWithTimeout(kTestPatience));
  EXPECT_OK(swaps_.Answer(2, RightSize()));
  EXPECT_OK(swaps_.Answer(1, RightSize()));
  EXPECT_EQ(recorder_.calls(1), 1);
  EXPECT_EQ(recorder_.calls(2), 1);
  EXPECT_THAT(swaps_.Health(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("link 7: no answer to step 2")));
}

TEST_F(SwapsInFlightTest, AnInfiniteDeadlineIsCutToTheLongestWait) {
  SwapsInFlight::Options options;
  options.longest_wait = absl::Milliseconds(20);
  SwapsInFlight swaps(std::move(options));
  ASSERT_TRUE(swaps.Begin(Header(1), absl::InfiniteFuture(), recorder_.Keep(1)));
  EXPECT_THAT(recorder_.Await(1), StatusIs(absl::StatusCode::kDeadlineExceeded));
}

TEST_F(SwapsInFlightTest, HeartbeatsGoOutOnlyWhileSwapsAreInFlight) {
  absl::Mutex mutex;
  int heartbeats = 0;
  SwapsInFlight* peer = nullptr;
  SwapsInFlight::Options options;
  options.silence_timeout = absl::Milliseconds(20);
  options.send_heartbeat = [&] {
    absl::MutexLock lock(&mutex);
    ++heartbeats;
    peer->Heard();  // a peer that answers at once
  };
  SwapsInFlight swaps(std::move(options));
  peer = &swaps;
  auto await = [&](int count) {
    absl::MutexLock lock(&mutex);
    auto enough = [&] { return heartbeats >= count; };
    return mutex.AwaitWithTimeout(absl::Condition(&enough), kTestPatience);
  };
  ASSERT_TRUE(swaps.Begin(Header(1), Soon(), recorder_.Keep(1)));
  ASSERT_TRUE(await(12));  // three times what a silent peer would have had
  EXPECT_OK(swaps.Health());
  EXPECT_OK(swaps.Answer(1, RightSize()));
  EXPECT_OK(recorder_.Await(1).status());
  // Heartbeats have ended; another swap begins them anew.
  ASSERT_TRUE(swaps.Begin(Header(2), Soon(), recorder_.Keep(2)));
  int before = 0;
  {
    absl::MutexLock lock(&mutex);
    before = heartbeats;
  }
  EXPECT_TRUE(await(before + 6));
  EXPECT_OK(swaps.Answer(2, RightSize()));
  swaps.Stop();
}

TEST_F(SwapsInFlightTest, SilenceEndsAllSwapsAndSaysSo) {
  SwapsInFlight::Options options;
  options.link_name = "link 8";
  options.silence_timeout = absl::Milliseconds(20);
  options.send_heartbeat = [] {};
  SwapsInFlight swaps(std::move(options));
  for (uint64_t step = 1; step <= 2; ++step) {
    ASSERT_TRUE(swaps.Begin(Header(step), Soon(), recorder_.Keep(step)));
  }
  for (uint64_t step = 1; step <= 2; ++step) {
    EXPECT_THAT(recorder_.Await(step),
                StatusIs(absl::StatusCode::kUnavailable,
                         HasSubstr("link 8: the peer is silent: no sign of life for")));
  }
  EXPECT_THAT(swaps.Health(), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(SwapsInFlightTest, ADispatchExpectsARowForEachExpertUnlessItIsCombined) {
  SwapResult result;
  result.rows.resize(3 * kHidden);
  ASSERT_TRUE(swaps_.Begin(MakeDispatch(1, {{0, 4}, {2}}, kHidden), Soon(), recorder_.Keep(1)));
  EXPECT_OK(swaps_.Answer(1, result));
  ASSERT_TRUE(
      swaps_.Begin(MakeDispatch(2, {{0, 4}, {2}}, kHidden, true), Soon(), recorder_.Keep(2)));
  EXPECT_THAT(swaps_.Answer(2, result),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("expected 8 row values")));
}

TEST_F(SwapsInFlightTest, StopReturnsWhenAllCallbacksHaveRun) {
  ASSERT_TRUE(swaps_.Begin(Header(1), Soon(), recorder_.Keep(1)));
  swaps_.Refuse(absl::InvalidArgumentError("bad"), recorder_.Keep(2));
  swaps_.Stop();
  EXPECT_EQ(recorder_.calls(1), 1);
  EXPECT_EQ(recorder_.calls(2), 1);
  EXPECT_TRUE(closed_.HasBeenNotified());
}

TEST(SwapsInFlightDeviceTest, CheckSwapTakesRowsOfTheLinksMemoryInTheWiresDTypeAlone) {
  testing::TaggedDevice device;
  ASSERT_OK_AND_ASSIGN(const auto memory, RowMemory::Create(&device, 4096));
  ASSERT_OK_AND_ASSIGN(const auto other, RowMemory::Create(&device, 4096));
  StepHeader header = MakeHeader(1, {{1, 0, 2, ReturnRows::kAll}}, 4);
  header.wire_dtype = kernels::DType::kBF16;
  ASSERT_OK_AND_ASSIGN(const auto fresh, memory->Take(2, 4, kernels::DType::kBF16));
  EXPECT_OK(CheckSwap(header, fresh.block, 4, {}, memory.get()));
  EXPECT_THAT(CheckSwap(header, fresh.block, 4, {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected in host memory")));
  EXPECT_THAT(CheckSwap(header, fresh.block, 4, {}, other.get()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found in memory of tagged")));
  header.wire_dtype = kernels::DType::kF32;
  EXPECT_THAT(CheckSwap(header, fresh.block, 4, {}, memory.get()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("[2, 4] f32, found")));
}

}  // namespace
}  // namespace ccoe::exchange
