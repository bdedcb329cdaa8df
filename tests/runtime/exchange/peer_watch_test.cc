// SPDX-License-Identifier: Apache-2.0
#include "runtime/exchange/peer_watch.h"

#include "gtest/gtest.h"

namespace ccoe::exchange {
namespace {

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
