// SPDX-License-Identifier: Apache-2.0
#include "runtime/experts/unit_kv.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/exchange/swap_reason.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::experts {
namespace {

using exchange::ReasonOf;
using exchange::SwapReason;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// `pages` of four tokens.
class UnitKvTest : public ::testing::Test {
 protected:
  void Start(int64_t pages) { kv_ = std::make_unique<UnitKv>(pages, 4, /*max_positions=*/64); }

  absl::Status Admit(uint64_t peer, uint64_t sequence, int64_t first, int64_t count) {
    return kv_->Admit(peer, {sequence, first, count}, now_);
  }
  SwapReason Reason(uint64_t peer, uint64_t sequence, int64_t first, int64_t count) {
    return ReasonOf(Admit(peer, sequence, first, count));
  }
  // Holds rows [first, first + count).
  absl::Status Hold(uint64_t peer, uint64_t sequence, int64_t first, int64_t count) {
    absl::Status admitted = Admit(peer, sequence, first, count);
    if (admitted.ok()) kv_->Commit(peer, {sequence, first, count});
    return admitted;
  }

  absl::Time now_ = absl::UnixEpoch() + absl::Hours(1);
  std::unique_ptr<UnitKv> kv_;
};

TEST_F(UnitKvTest, HoldsWhatWasCommitted) {
  Start(8);
  ASSERT_OK(Admit(1, 1, 0, 5));
  EXPECT_THAT(kv_->Table(1, 1), SizeIs(2));
  kv_->Commit(1, {1, 0, 5});
  EXPECT_OK(Hold(1, 1, 5, 1));
  EXPECT_EQ(kv_->used_tokens(), 8);
  EXPECT_EQ(kv_->total_tokens(), 32);
}

TEST_F(UnitKvTest, AGapMeansRecomputeFromZero) {
  Start(8);
  const absl::Status lost = Admit(1, 7, 9, 1);
  EXPECT_EQ(ReasonOf(lost), SwapReason::kKvLost);
  EXPECT_THAT(std::string(lost.message()),
              HasSubstr("KV of sequence 7: expected 9 tokens before the swap's rows, found 0"));
}

TEST_F(UnitKvTest, AnEarlierStartDropsWhatFollows) {
  Start(8);
  ASSERT_OK(Hold(1, 1, 0, 12));
  ASSERT_OK(Admit(1, 1, 3, 2));
  EXPECT_THAT(kv_->Table(1, 1), SizeIs(2));
  kv_->Commit(1, {1, 3, 2});
  EXPECT_EQ(kv_->used_tokens(), 8);
  EXPECT_EQ(Reason(1, 1, 6, 1), SwapReason::kKvLost);
}

TEST_F(UnitKvTest, ASequenceThatCanNeverFitIsTooLong) {
  Start(4);
  const absl::Status too_long = Admit(1, 1, 0, 17);
  EXPECT_EQ(ReasonOf(too_long), SwapReason::kTooLong);
  EXPECT_THAT(std::string(too_long.message()),
              HasSubstr("grows to 17 tokens; the expert's whole KV cache holds 16"));
  Start(100);
  const absl::Status beyond = Admit(1, 1, 0, 65);
  EXPECT_EQ(ReasonOf(beyond), SwapReason::kTooLong);
  EXPECT_THAT(std::string(beyond.message()), HasSubstr("at most 64 positions"));
}

TEST_F(UnitKvTest, WithoutPagesNothingChanges) {
  Start(4);
  ASSERT_OK(Hold(1, 1, 0, 8));
  const absl::Status full = Admit(1, 2, 0, 9);
  EXPECT_EQ(ReasonOf(full), SwapReason::kNoPages);
  EXPECT_THAT(std::string(full.message()),
              HasSubstr("sequence 2 needs 3 more of 4 tokens, 2 of 4 are free"));
  EXPECT_EQ(kv_->used_tokens(), 8);
  EXPECT_OK(Hold(1, 1, 8, 8));
}

TEST_F(UnitKvTest, AbandonGivesTheRoomBackAndKeepsWhatWasThere) {
  Start(8);
  ASSERT_OK(Hold(1, 1, 0, 4));
  ASSERT_OK(Admit(1, 1, 4, 10));
  ASSERT_OK(Admit(1, 2, 0, 3));
  kv_->Abandon(1, {1, 4, 10});
  kv_->Abandon(1, {2, 0, 3});
  EXPECT_EQ(kv_->used_tokens(), 4);
  EXPECT_OK(Hold(1, 1, 4, 1));
}

TEST_F(UnitKvTest, PeersAndSequencesAreApart) {
  Start(8);
  for (const uint64_t peer : {1, 2}) {
    for (const uint64_t sequence : {5, 6}) ASSERT_OK(Hold(peer, sequence, 0, 4));
  }
  EXPECT_EQ(kv_->used_tokens(), 16);
  kv_->Release(1, 5);
  kv_->Release(1, 5);
  kv_->Release(3, 5);
  EXPECT_EQ(kv_->used_tokens(), 12);
  kv_->ReleasePeer(2);
  EXPECT_EQ(kv_->used_tokens(), 4);
  EXPECT_OK(Hold(1, 6, 4, 1));
}

TEST_F(UnitKvTest, AReleaseDuringAPassTakesEffectAfterIt) {
  Start(8);
  ASSERT_OK(Admit(1, 1, 0, 5));
  ASSERT_OK(Admit(1, 2, 0, 5));
  kv_->Release(1, 1);
  kv_->Release(1, 2);
  EXPECT_EQ(kv_->used_tokens(), 16);
  EXPECT_THAT(kv_->Table(1, 1), SizeIs(2));
  kv_->Commit(1, {1, 0, 5});
  kv_->Abandon(1, {2, 0, 5});
  EXPECT_EQ(kv_->used_tokens(), 0);
  EXPECT_EQ(Reason(1, 1, 5, 1), SwapReason::kKvLost);
}

TEST_F(UnitKvTest, APeerMayTakeAllPagesWhileNobodyElseWaits) {
  Start(8);
  ASSERT_OK(Hold(2, 1, 0, 4));
  EXPECT_OK(Hold(1, 1, 0, 28));
}

TEST_F(UnitKvTest, FreedPagesGoToThePeerBelowItsShareThatWaits) {
  Start(8);
  for (uint64_t sequence = 1; sequence <= 4; ++sequence) ASSERT_OK(Hold(1, sequence, 0, 8));
  EXPECT_EQ(Reason(2, 1, 0, 16), SwapReason::kNoPages);  // its share: 4 of 8 pages
  kv_->Release(1, 4);
  // Too few for the one that waits, and not for the one that has more than its share.
  const absl::Status kept = Admit(1, 3, 8, 1);
  EXPECT_EQ(ReasonOf(kept), SwapReason::kNoPages);
  EXPECT_THAT(std::string(kept.message()),
              HasSubstr("2 of 8 are free and kept for peers below their share of 4"));
  EXPECT_OK(Hold(1, 3, 7, 1));  // what needs no page goes on
  EXPECT_EQ(kv_->used_tokens(), 24);
  kv_->Release(1, 3);
  EXPECT_OK(Hold(2, 1, 0, 16));
  EXPECT_EQ(kv_->used_tokens(), 32);
  // It waits no more.
  kv_->Release(2, 1);
  EXPECT_OK(Hold(1, 2, 8, 8));
}

TEST_F(UnitKvTest, APeerWithItsShareWaitsLikeOthers) {
  Start(8);
  ASSERT_OK(Hold(1, 1, 0, 12));
  ASSERT_OK(Hold(2, 1, 0, 16));
  EXPECT_EQ(Reason(2, 2, 0, 8), SwapReason::kNoPages);  // would be over its share: no claim
  EXPECT_OK(Hold(1, 2, 0, 4));
}

TEST_F(UnitKvTest, PagesAreKeptForAPeerWhoseRefusedSequenceComesBackAsAnother) {
  Start(8);
  for (uint64_t sequence = 1; sequence <= 4; ++sequence) ASSERT_OK(Hold(1, sequence, 0, 8));
  for (uint64_t sequence = 1; sequence <= 3; ++sequence) {
    EXPECT_EQ(Reason(2, sequence, 0, 8), SwapReason::kNoPages);
    kv_->Release(2, sequence);  // as who is refused does
    now_ += UnitKv::kClaim / 2;
  }
  kv_->Release(1, 4);
  EXPECT_EQ(Reason(1, 5, 0, 4), SwapReason::kNoPages);
  EXPECT_OK(Hold(2, 4, 0, 8));
}

TEST_F(UnitKvTest, PagesAreNotKeptForWhoGivesUp) {
  for (int how = 1; how < 3; ++how) {
    Start(4);
    ASSERT_OK(Hold(1, 1, 0, 12));
    EXPECT_EQ(Reason(2, 9, 0, 8), SwapReason::kNoPages);
    EXPECT_EQ(Reason(1, 1, 12, 1), SwapReason::kNoPages);
    if (how == 1) kv_->ReleasePeer(2);
    if (how == 2) now_ += UnitKv::kClaim;
    EXPECT_OK(Hold(1, 1, 12, 1)) << how;
  }
}

}  // namespace
}  // namespace ccoe::experts
