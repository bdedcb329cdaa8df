// SPDX-License-Identifier: Apache-2.0

#include "runtime/exchange/link_table.h"

#include <memory>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/exchange/swap_recorder.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::exchange {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kHidden = 4;
constexpr int64_t kCost = 3 * kHidden * sizeof(float);  // of Header: two rows out, one back

SwapHeader Header(uint64_t id) { return MakeHeader(id, {{1, 0, 2, ReturnRows::kLast}}, kHidden); }

SwapResult RightSize() {
  SwapResult result;
  result.rows.resize(kHidden);
  return result;
}

Envelope Of(const std::vector<SwapHeader>& headers) {
  Envelope envelope;
  envelope.step_id = 70;
  for (const SwapHeader& header : headers) {
    Add(envelope, header, {RowBlock(TaggedRows(header, 1)), {}});
  }
  return envelope;
}

LinkTable::Options Options() {
  LinkTable::Options options;
  options.link_name = "link 7";
  options.hidden_size = kHidden;
  options.capacity = {int64_t{1} << 30, 2};
  return options;
}

class LinkTableTest : public ::testing::Test {
 protected:
  void Start(LinkTable::Options options = Options()) {
    options.on_closed = [this] { closed_.Notify(); };
    table_ = std::make_unique<LinkTable>(std::move(options));
  }
  bool Begin(const std::vector<SwapHeader>& headers) {
    return table_->Begin(Of(headers), recorder_.Keep());
  }
  // Begins and sends.
  bool Send(const std::vector<SwapHeader>& headers) {
    Envelope envelope = Of(headers);
    if (!table_->Begin(envelope, recorder_.Keep())) return false;
    table_->StartSending(envelope);
    return true;
  }

  testing::FakeClock clock_;
  absl::Notification closed_;
  SwapRecorder recorder_;
  std::unique_ptr<LinkTable> table_;
};

TEST_F(LinkTableTest, AnAnswerGoesToItsSwapOnTheAnswerersThread) {
  Start();
  bool called = false;
  Envelope envelope = Of({Header(1)});
  ASSERT_TRUE(table_->Begin(envelope, [&](uint64_t id, absl::StatusOr<SwapResult> result) {
    called = id == 1 && result.ok();
  }));
  table_->StartSending(envelope);
  EXPECT_OK(table_->Answer(1, RightSize()));
  EXPECT_TRUE(called);
}

TEST_F(LinkTableTest, AnErrorNamesTheLinkAndKeepsItsReason) {
  Start();
  ASSERT_TRUE(Send({Header(1)}));
  EXPECT_OK(table_->Answer(1, SwapError(SwapReason::kUnknownExpert, "no math@1")));
  EXPECT_THAT(recorder_.Await(1),
              FailsWith(SwapReason::kUnknownExpert, HasSubstr("link 7: no math@1")));
}

TEST_F(LinkTableTest, AnAnswerGivenTwiceOrToNobodyBreaksTheProtocol) {
  Start();
  ASSERT_TRUE(Send({Header(1)}));
  ASSERT_TRUE(Begin({Header(2)}));
  EXPECT_OK(table_->Answer(1, RightSize()));
  EXPECT_THAT(
      table_->Answer(1, RightSize()),
      StatusIs(absl::StatusCode::kInternal, HasSubstr("answer to swap 1, which is not in flight")));
  EXPECT_THAT(table_->Answer(9, RightSize()), StatusIs(absl::StatusCode::kInternal));
  // What was never sent has no answer.
  EXPECT_EQ(table_->Find(2), nullptr);
  EXPECT_THAT(table_->Answer(2, RightSize()), StatusIs(absl::StatusCode::kInternal));
  EXPECT_EQ(recorder_.calls(1), 1);
  EXPECT_EQ(recorder_.calls(2), 0);
}

TEST_F(LinkTableTest, AResultOfTheWrongShapeBreaksTheProtocolAndEndsItsSwap) {
  Start();
  ASSERT_TRUE(Send({Header(1)}));
  SwapResult result = RightSize();
  result.captured.resize(3);
  EXPECT_THAT(table_->Answer(1, result), StatusIs(absl::StatusCode::kInternal));
  EXPECT_THAT(recorder_.Await(1),
              FailsWith(SwapReason::kInternal,
                        HasSubstr("expected 4 values and 0 captured ones, found 4 and 3")));
}

TEST_F(LinkTableTest, AnswerLaterClosesOnABrokenProtocol) {
  Start();
  ASSERT_TRUE(Send({Header(1)}));
  table_->AnswerLater(5, RightSize());
  EXPECT_THAT(recorder_.Await(1), FailsWith(SwapReason::kLinkBroken, HasSubstr("swap 5")));
  EXPECT_TRUE(closed_.WaitForNotificationWithTimeout(kTestPatience));
  EXPECT_FALSE(table_->healthy());
}

TEST_F(LinkTableTest, RefusesBeyondItsCapacityAndIdsThatDoNotRise) {
  Start();
  ASSERT_TRUE(Send({Header(3)}));
  EXPECT_FALSE(Begin({Header(2)}));
  EXPECT_THAT(recorder_.Await(2), FailsWith(SwapReason::kInvalid, HasSubstr("above 3")));
  ASSERT_TRUE(Begin({Header(4)}));
  EXPECT_FALSE(Begin({Header(5)}));
  EXPECT_THAT(recorder_.Await(5),
              FailsWith(SwapReason::kLinkFull, HasSubstr("with step 70 3 swaps of 144 bytes")));
  EXPECT_OK(table_->Answer(3, RightSize()));
  EXPECT_TRUE(Begin({Header(6)}));
}

TEST_F(LinkTableTest, CapacityIsInBytesTooAndAnEnvelopeEntersAsAWhole) {
  LinkTable::Options options = Options();
  options.capacity = {3 * kCost, 100};
  Start(std::move(options));
  ASSERT_TRUE(Begin({Header(1), Header(2)}));
  EXPECT_FALSE(Begin({Header(3), Header(4)}));
  for (const uint64_t id : {3, 4}) {
    EXPECT_THAT(recorder_.Await(id), FailsWith(SwapReason::kLinkFull, HasSubstr("192 bytes")));
  }
  EXPECT_TRUE(Begin({Header(5)}));
}

TEST_F(LinkTableTest, AnEnvelopeThatCouldNeverFitIsInvalid) {
  LinkTable::Options options = Options();
  options.capacity = {2 * kCost - 1, 100};
  Start(std::move(options));
  EXPECT_FALSE(Begin({Header(1), Header(2)}));
  EXPECT_THAT(recorder_.Await(1), FailsWith(SwapReason::kInvalid, HasSubstr("at most 100 and 95")));
  EXPECT_TRUE(Begin({Header(3)}));
}

TEST_F(LinkTableTest, AnEnvelopeOverTheBytesOfAMessageIsInvalid) {
  LinkTable::Options options = Options();
  options.max_bytes = 31;
  Start(std::move(options));
  EXPECT_FALSE(Begin({Header(1)}));
  EXPECT_THAT(recorder_.Await(1),
              FailsWith(SwapReason::kInvalid, HasSubstr("sends 32 bytes of rows and asks for 16")));
}

TEST_F(LinkTableTest, CancelAnswersWhatWaitsAndNamesWhatWasSentOnce) {
  LinkTable::Options options = Options();
  options.capacity.swaps = 4;
  Start(std::move(options));
  ASSERT_TRUE(Send({Header(1), Header(2)}));
  Envelope waiting = Of({Header(3), Header(4)});
  ASSERT_TRUE(table_->Begin(waiting, recorder_.Keep()));
  EXPECT_THAT(table_->Cancel({1, 3, 9}), ElementsAre(1));
  EXPECT_THAT(table_->Cancel({1, 3}), IsEmpty());
  EXPECT_THAT(recorder_.Await(3), FailsWith(SwapReason::kCancelled));
  // Its rows still lie in the queue, so its room is not free yet.
  EXPECT_FALSE(Begin({Header(5)}));
  const SwapCredit dropped = table_->StartSending(waiting);
  EXPECT_EQ(dropped.swaps, 1);
  EXPECT_EQ(dropped.bytes, kCost);
  ASSERT_EQ(waiting.swaps.size(), 1);
  EXPECT_EQ(waiting.swaps[0].header.id, 4);
  EXPECT_TRUE(Begin({Header(6)}));
  EXPECT_OK(table_->Answer(1, SwapError(SwapReason::kCancelled, "told")));
  EXPECT_THAT(recorder_.Await(1), FailsWith(SwapReason::kCancelled, HasSubstr("told")));
  EXPECT_EQ(recorder_.calls(3), 1);
}

TEST_F(LinkTableTest, CloseEndsAllAndLateAnswersAreDropped) {
  Start();
  ASSERT_TRUE(Send({Header(1), Header(2)}));
  table_->Close("the wire is cut");
  for (const uint64_t id : {1, 2}) {
    EXPECT_THAT(recorder_.Await(id),
                FailsWith(SwapReason::kLinkBroken, HasSubstr("link 7: the wire is cut; swap")));
  }
  EXPECT_TRUE(closed_.WaitForNotificationWithTimeout(kTestPatience));
  EXPECT_OK(table_->Answer(2, RightSize()));
  EXPECT_EQ(recorder_.calls(2), 1);
  EXPECT_FALSE(Begin({Header(3)}));
  EXPECT_THAT(recorder_.Await(3), FailsWith(SwapReason::kLinkBroken));
  table_->Close("again");
  EXPECT_THAT(table_->Health(), FailsWith(SwapReason::kLinkBroken, HasSubstr("cut")));
}

TEST_F(LinkTableTest, SaysWhereASwapIs) {
  LinkTable::Options options = Options();
  options.clock = &clock_;
  Start(std::move(options));
  EXPECT_EQ(table_->WhereIs(1), "not in flight");
  Envelope envelope = Of({Header(1)});
  ASSERT_TRUE(table_->Begin(envelope, recorder_.Keep()));
  EXPECT_EQ(table_->WhereIs(1), "waits to be sent");
  table_->StartSending(envelope);
  clock_.Advance(absl::Milliseconds(2100));
  EXPECT_EQ(table_->WhereIs(1), "sent, not taken in by the worker for 2.1s");
  table_->Heard({5, "math@1", absl::Seconds(2)}, 1);
  clock_.Advance(absl::Milliseconds(100));
  EXPECT_EQ(table_->WhereIs(1), "waits at the worker, which computes math@1 since 2.1s");
  table_->Heard({6, "", absl::ZeroDuration()}, 1);
  EXPECT_EQ(table_->WhereIs(1), "waits at the worker, which computes nothing");
  EXPECT_OK(table_->Answer(1, RightSize()));
  EXPECT_EQ(table_->WhereIs(1), "not in flight");
}

TEST_F(LinkTableTest, AnIdleLinkAsksSeldomAndBlamesNobody) {
  absl::Mutex mutex;
  int heartbeats = 0;
  LinkTable::Options options = Options();
  options.patience.silence = absl::Milliseconds(1);
  options.idle_heartbeat = absl::Milliseconds(2);
  options.send_heartbeat = [&] {  // of a peer that never answers
    absl::MutexLock lock(&mutex);
    ++heartbeats;
  };
  Start(std::move(options));
  {
    absl::MutexLock lock(&mutex);
    auto enough = [&] { return heartbeats >= 5; };
    EXPECT_TRUE(mutex.AwaitWithTimeout(absl::Condition(&enough), kTestPatience));
  }
  EXPECT_OK(table_->Health());
  ASSERT_TRUE(Send({Header(1)}));
  EXPECT_THAT(recorder_.Await(1), FailsWith(SwapReason::kLinkBroken, HasSubstr("silent")));
  table_->Stop();
}

TEST_F(LinkTableTest, HeartbeatsGoOutOnlyWhileSwapsAreInFlight) {
  absl::Mutex mutex;
  int heartbeats = 0;
  LinkTable::Options options = Options();
  options.patience.silence = absl::Milliseconds(20);
  options.send_heartbeat = [&] {
    absl::MutexLock lock(&mutex);
    ++heartbeats;
    table_->Heard();  // a peer that answers at once
  };
  Start(std::move(options));
  auto await = [&](int count) {
    absl::MutexLock lock(&mutex);
    auto enough = [&] { return heartbeats >= count; };
    return mutex.AwaitWithTimeout(absl::Condition(&enough), kTestPatience);
  };
  ASSERT_TRUE(Send({Header(1)}));
  ASSERT_TRUE(await(12));  // three times what a silent peer would have had
  EXPECT_OK(table_->Health());
  EXPECT_OK(table_->Answer(1, RightSize()));
  EXPECT_OK(recorder_.Await(1).status());
  // Heartbeats have ended; another swap begins them anew.
  ASSERT_TRUE(Send({Header(2)}));
  int before = 0;
  {
    absl::MutexLock lock(&mutex);
    before = heartbeats;
  }
  EXPECT_TRUE(await(before + 6));
  EXPECT_OK(table_->Answer(2, RightSize()));
  table_->Stop();
}

TEST_F(LinkTableTest, SilenceEndsAllSwapsAndSaysSo) {
  LinkTable::Options options = Options();
  options.patience.silence = absl::Milliseconds(20);
  options.send_heartbeat = [] {};
  Start(std::move(options));
  ASSERT_TRUE(Send({Header(1), Header(2)}));
  for (const uint64_t id : {1, 2}) {
    EXPECT_THAT(recorder_.Await(id),
                FailsWith(SwapReason::kLinkBroken,
                          HasSubstr("link 7: the peer is silent: no sign of life for")));
  }
  EXPECT_FALSE(table_->healthy());
}

TEST_F(LinkTableTest, APeerThatAnswersAndEndsNoPassIsLeftAndNamed) {
  LinkTable::Options options = Options();
  options.patience = {absl::Milliseconds(20), absl::Milliseconds(60)};
  options.send_heartbeat = [this] { table_->Heard({5, "layer 7", absl::Seconds(3)}, 2); };
  Start(std::move(options));
  ASSERT_TRUE(Send({Header(1)}));
  EXPECT_THAT(recorder_.Await(1),
              FailsWith(SwapReason::kLinkBroken, HasSubstr("link 7: the peer has stalled")));
  EXPECT_THAT(table_->Health(),
              FailsWith(SwapReason::kLinkBroken, HasSubstr("computes layer 7 since 3")));
}

TEST_F(LinkTableTest, ADispatchExpectsARowForEachExpertUnlessItIsCombined) {
  Start();
  SwapResult result;
  result.rows.resize(3 * kHidden);
  ASSERT_TRUE(Send({MakeDispatch(1, {{0, 4}, {2}}, kHidden)}));
  EXPECT_OK(table_->Answer(1, result));
  ASSERT_TRUE(Send({MakeDispatch(2, {{0, 4}, {2}}, kHidden, true)}));
  EXPECT_THAT(table_->Answer(2, result),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("expected 8 values")));
}

TEST_F(LinkTableTest, StopReturnsWhenAllCallbacksHaveRun) {
  Start();
  ASSERT_TRUE(Send({Header(2)}));
  EXPECT_FALSE(Begin({Header(1)}));
  table_->Stop();
  EXPECT_EQ(recorder_.calls(1), 1);
  EXPECT_EQ(recorder_.calls(2), 1);
  EXPECT_TRUE(closed_.HasBeenNotified());
}

TEST_F(LinkTableTest, TakesRowsOfTheLinksMemoryInTheWiresDTypeAlone) {
  testing::TaggedDevice device;
  ASSERT_OK_AND_ASSIGN(const auto memory, RowMemory::Create(&device, 4096));
  ASSERT_OK_AND_ASSIGN(const auto other, RowMemory::Create(&device, 4096));
  LinkTable::Options options = Options();
  options.memory = memory.get();
  Start(std::move(options));
  SwapHeader header = Header(1);
  header.format.dtype = kernels::DType::kBF16;
  ASSERT_OK_AND_ASSIGN(const auto fresh, memory->Take(2, kHidden, kernels::DType::kBF16));
  EXPECT_TRUE(table_->Begin(OneSwap(header, {fresh.block, {}}), recorder_.Keep()));
  ASSERT_OK_AND_ASSIGN(const auto strange, other->Take(2, kHidden, kernels::DType::kBF16));
  header.id = 2;
  EXPECT_FALSE(table_->Begin(OneSwap(header, {strange.block, {}}), recorder_.Keep()));
  EXPECT_THAT(recorder_.Await(2),
              FailsWith(SwapReason::kInvalid, HasSubstr("found memory of tagged")));
}

// Looks when it is told to, at a clock of its own.
class PeerWatchTest : public ::testing::Test {
 protected:
  PeerWatch::Verdict LookAfter(absl::Duration pause, bool in_flight = true, int64_t bytes = 0) {
    now_ += pause;
    return watch_.Look(now_, in_flight, bytes);
  }
  // Looks on time until the peer counts as silent; how long that took. An hour means never.
  absl::Duration TimeToSilence(int64_t bytes = 0) {
    const absl::Time start = now_;
    while (now_ < start + absl::Hours(1)) {
      const PeerWatch::Verdict verdict = LookAfter(absl::ZeroDuration(), true, bytes);
      if (verdict.silent) break;
      now_ = verdict.next_look;
    }
    return now_ - start;
  }

  absl::Time now_ = absl::FromUnixSeconds(1000);
  PeerWatch watch_{PeerPatience{absl::Seconds(1), absl::Seconds(5)}};
};

TEST_F(PeerWatchTest, APeerThatSaysNothingIsSilentAfterTheTimeout) {
  EXPECT_EQ(TimeToSilence(), absl::Seconds(1));
}

TEST_F(PeerWatchTest, AnySignOfLifeStartsAnew) {
  for (int i = 0; i < 20; ++i) {
    EXPECT_FALSE(LookAfter(absl::Milliseconds(250)).silent);
    EXPECT_FALSE(LookAfter(absl::Milliseconds(250)).silent);
    watch_.Heard();
  }
  EXPECT_FALSE(LookAfter(absl::Milliseconds(250)).silent);
  EXPECT_EQ(TimeToSilence(), absl::Seconds(1));
}

TEST_F(PeerWatchTest, NothingInFlightMeansNoSilenceAndNoNextLook) {
  LookAfter(absl::ZeroDuration());
  LookAfter(absl::Milliseconds(750));
  const PeerWatch::Verdict idle = LookAfter(absl::Milliseconds(250), false);
  EXPECT_FALSE(idle.silent);
  EXPECT_EQ(idle.next_look, absl::InfiniteFuture());
  EXPECT_FALSE(LookAfter(absl::Hours(5)).silent);
  EXPECT_EQ(TimeToSilence(), absl::Seconds(1));
}

TEST_F(PeerWatchTest, BytesOnTheirWayAreGivenTime) {
  EXPECT_EQ(TimeToSilence(200'000'000), absl::Seconds(3));
}

TEST_F(PeerWatchTest, WhoDidNotRunItselfDoesNotBlameThePeer) {
  LookAfter(absl::ZeroDuration());
  const PeerWatch::Verdict late = LookAfter(absl::Hours(1));
  EXPECT_FALSE(late.silent);
  EXPECT_EQ(late.heard_nothing, absl::Milliseconds(500));
  EXPECT_FALSE(LookAfter(absl::Milliseconds(250)).silent);
  EXPECT_TRUE(LookAfter(absl::Milliseconds(250)).silent);
}

TEST_F(PeerWatchTest, AClockThatGoesBackCountsAsNoTime) {
  LookAfter(absl::ZeroDuration());
  EXPECT_EQ(LookAfter(-absl::Hours(1)).heard_nothing, absl::ZeroDuration());
  EXPECT_EQ(TimeToSilence(), absl::Seconds(1));
}

TEST_F(PeerWatchTest, APeerThatIsHeardAndEndsNoPassStallsAfterItsTime) {
  LookAfter(absl::ZeroDuration());
  for (int i = 1; i < 20; ++i) {
    watch_.Heard();
    const PeerWatch::Verdict verdict = LookAfter(absl::Milliseconds(250));
    EXPECT_FALSE(verdict.silent || verdict.stalled);
    EXPECT_EQ(verdict.no_progress, i * absl::Milliseconds(250));
  }
  watch_.Heard();
  EXPECT_TRUE(LookAfter(absl::Milliseconds(250)).stalled);
}

TEST_F(PeerWatchTest, ProgressStartsAnewAndIsNoSignOfLifeByItself) {
  LookAfter(absl::ZeroDuration());
  for (int i = 0; i < 100; ++i) {
    watch_.Heard();
    if (i % 10 == 0) watch_.Progressed();
    EXPECT_FALSE(LookAfter(absl::Milliseconds(250)).stalled);
  }
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(LookAfter(absl::Milliseconds(250)).silent);
  watch_.Progressed();
  EXPECT_TRUE(LookAfter(absl::Milliseconds(250)).silent);
}

TEST_F(PeerWatchTest, NothingInFlightMeansNoStall) {
  LookAfter(absl::ZeroDuration());
  for (int i = 0; i < 19; ++i) LookAfter(absl::Milliseconds(250));
  LookAfter(absl::Milliseconds(250), false);
  EXPECT_FALSE(LookAfter(absl::ZeroDuration()).stalled);
}

TEST_F(PeerWatchTest, AnInfiniteTimeoutNeverLooks) {
  PeerWatch patient({absl::InfiniteDuration(), absl::Seconds(1)});
  EXPECT_EQ(patient.Look(now_, true, 0).next_look, absl::InfiniteFuture());
  EXPECT_FALSE(patient.Look(now_ + absl::Hours(100), true, 0).silent);
}

}  // namespace
}  // namespace ccoe::exchange
