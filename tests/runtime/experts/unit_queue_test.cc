// SPDX-License-Identifier: Apache-2.0
#include "runtime/experts/unit_queue.h"

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/exchange/swap_result.h"
#include "tests/runtime/experts/swaps.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::experts {
namespace {

using ::ccoe::testing::StatusIs;
using exchange::ReasonOf;
using exchange::SwapReason;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<uint64_t> Ids(const std::vector<WaitingSwap>& swaps) {
  std::vector<uint64_t> ids;
  for (const WaitingSwap& swap : swaps) ids.push_back(swap.header().id);
  return ids;
}

// Rows of four values.
class UnitQueueTest : public ::testing::Test {
 protected:
  absl::Status Push(uint64_t peer, uint64_t id, const std::string& expert,
                    const std::vector<uint64_t>& sequences, int64_t rows = 1,
                    bool capture = false) {
    std::vector<exchange::SwapSequence> all;
    for (const uint64_t sequence : sequences) all.push_back({sequence, 0, rows});
    exchange::SwapHeader header = LayerHeader(id, std::move(all), expert, {1, 3}, 4);
    std::get<exchange::LayerSwap>(header.work).capture_layers = capture;
    return Push(peer, std::move(header));
  }
  // Rows of two pairs each.
  absl::Status PushFfn(uint64_t peer, uint64_t id, int32_t layer, int64_t rows = 1) {
    return Push(peer, FfnHeader(id, layer, std::vector<std::vector<int32_t>>(rows, {0, 1}), 4));
  }
  absl::Status Push(uint64_t peer, exchange::SwapHeader header) {
    std::vector<float> rows(header.rows() * 4);
    return queue_.Push(Waiting(std::move(header), std::move(rows), peer));
  }

  std::vector<uint64_t> Take() { return Ids(queue_.Take().swaps); }

  UnitQueue queue_{{/*max_batch_rows=*/8, /*max_batch_pairs=*/12, /*max_waiting_swaps=*/6,
                    /*max_waiting_bytes=*/1000}};
};

TEST_F(UnitQueueTest, MergesWhatWaitsForTheUnitOfTheOldestSwap) {
  ASSERT_OK(Push(1, 1, "math", {1}));
  ASSERT_OK(PushFfn(1, 2, 3));
  ASSERT_OK(Push(1, 3, "code", {2}));
  ASSERT_OK(Push(2, 4, "math", {1}));
  ASSERT_OK(PushFfn(2, 5, 3));
  ASSERT_OK(Push(1, 6, "math", {3}));
  EXPECT_EQ(queue_.waiting_rows(UnitKey{{"math", 1}, -1}), 3);
  EXPECT_EQ(queue_.waiting_rows(), 6);
  EXPECT_EQ(queue_.waiting_swaps(), 6);
  UnitQueue::Pass pass = queue_.Take();
  EXPECT_EQ(pass.unit.ToString(), "math@1");
  EXPECT_THAT(Ids(pass.swaps), ElementsAre(1, 4, 6));
  pass = queue_.Take();
  EXPECT_EQ(pass.unit.ToString(), "layer 3");
  EXPECT_THAT(Ids(pass.swaps), ElementsAre(2, 5));
  EXPECT_THAT(Take(), ElementsAre(3));
  EXPECT_TRUE(queue_.empty());
  EXPECT_EQ(queue_.waiting_bytes(), 0);
  EXPECT_EQ(queue_.waiting_rows(), 0);
  EXPECT_THAT(Take(), IsEmpty());
}

TEST_F(UnitQueueTest, ASequenceIsInAPassOnceAndKeepsItsOrder) {
  ASSERT_OK(Push(1, 1, "math", {1, 2}));
  ASSERT_OK(Push(1, 2, "math", {2, 7}));
  ASSERT_OK(Push(1, 3, "math", {7}));  // behind 2, which waits for sequence 2
  ASSERT_OK(Push(1, 4, "math", {9}));  // overtakes: it shares no sequence
  ASSERT_OK(Push(2, 5, "math", {2}));  // another peer's sequence 2
  EXPECT_THAT(Take(), ElementsAre(1, 4, 5));
  EXPECT_THAT(Take(), ElementsAre(2));
  EXPECT_THAT(Take(), ElementsAre(3));
}

TEST_F(UnitQueueTest, ASequenceDoesNotOvertakeItselfAtAnotherExpert) {
  ASSERT_OK(Push(1, 1, "math", {1}));
  ASSERT_OK(Push(1, 2, "code", {5}));
  ASSERT_OK(Push(1, 3, "math", {5}));
  EXPECT_THAT(Take(), ElementsAre(1));
  EXPECT_THAT(Take(), ElementsAre(2));
  EXPECT_THAT(Take(), ElementsAre(3));
}

TEST_F(UnitQueueTest, SwapsForFfnExpertsAreMergedWhateverTheirOrderAndPeer) {
  ASSERT_OK(PushFfn(1, 10, 3));
  ASSERT_OK(PushFfn(1, 11, 5));
  ASSERT_OK(PushFfn(1, 12, 3));  // overtakes 11 of its peer
  ASSERT_OK(PushFfn(2, 20, 3));
  EXPECT_THAT(Take(), ElementsAre(10, 12, 20));
  EXPECT_THAT(Take(), ElementsAre(11));
}

TEST_F(UnitQueueTest, BoundsTheRowsOfAPassButNeverStarvesALargeSwap) {
  ASSERT_OK(Push(1, 1, "math", {1}, 5));
  ASSERT_OK(Push(2, 2, "math", {1}, 20));
  ASSERT_OK(Push(3, 3, "math", {1}, 3));
  EXPECT_THAT(Take(), ElementsAre(1, 3));
  ASSERT_OK(Push(3, 4, "math", {1}, 1));
  EXPECT_THAT(Take(), ElementsAre(2));
  EXPECT_THAT(Take(), ElementsAre(4));
}

TEST_F(UnitQueueTest, BoundsThePairsOfAPassOfFfnExpertsLikewise) {
  ASSERT_OK(PushFfn(1, 10, 3, 4));
  ASSERT_OK(PushFfn(2, 20, 3, 3));  // 8 + 6 pairs are too many
  ASSERT_OK(PushFfn(3, 30, 3, 2));
  EXPECT_THAT(Take(), ElementsAre(10, 30));
  EXPECT_THAT(Take(), ElementsAre(20));
  ASSERT_OK(PushFfn(1, 11, 3, 9));
  ASSERT_OK(PushFfn(2, 21, 3, 1));
  EXPECT_THAT(Take(), ElementsAre(11));
  EXPECT_THAT(Take(), ElementsAre(21));
}

TEST_F(UnitQueueTest, SwapsThatCaptureLayersRunAlone) {
  ASSERT_OK(Push(1, 1, "math", {1}));
  ASSERT_OK(Push(2, 2, "math", {1}, 1, /*capture=*/true));
  ASSERT_OK(Push(3, 3, "math", {1}));
  EXPECT_THAT(Take(), ElementsAre(1, 3));
  ASSERT_OK(Push(3, 4, "math", {2}));
  EXPECT_THAT(Take(), ElementsAre(2));
  EXPECT_THAT(Take(), ElementsAre(4));
}

TEST_F(UnitQueueTest, AReleaseTakesTheSequenceOutOfWhatWaits) {
  ASSERT_OK(Push(1, 1, "math", {1, 2}, 2));
  ASSERT_OK(Push(1, 2, "math", {1}));
  ASSERT_OK(Push(2, 3, "math", {1}));  // another peer's
  EXPECT_THAT(queue_.Release({1, 7}), IsEmpty());
  const std::vector<WaitingSwap> over = queue_.Release({1, 1});
  EXPECT_THAT(Ids(over), ElementsAre(2));
  EXPECT_EQ(ReasonOf(over[0].verdicts[0]), SwapReason::kCancelled);
  EXPECT_EQ(queue_.waiting_rows(), 3);
  // The id may be used again at once, and does not wait for its past.
  ASSERT_OK(Push(1, 4, "math", {1}));
  const UnitQueue::Pass pass = queue_.Take();
  EXPECT_THAT(Ids(pass.swaps), ElementsAre(1, 3, 4));
  EXPECT_FALSE(pass.swaps[0].computes(0));
  EXPECT_TRUE(pass.swaps[0].computes(1));
  EXPECT_TRUE(pass.swaps[0].computes_any());
  EXPECT_THAT(pass.swaps[1].verdicts, IsEmpty());
  EXPECT_EQ(queue_.waiting_rows(), 0);
}

TEST_F(UnitQueueTest, WhatAReleaseFreesDoesNotBlockOthers) {
  ASSERT_OK(Push(1, 1, "math", {5}));
  ASSERT_OK(Push(1, 2, "code", {1, 2}));
  ASSERT_OK(Push(1, 3, "math", {2}));  // waits for 2 at code
  EXPECT_THAT(queue_.Release({1, 2}), ::testing::SizeIs(1));
  EXPECT_THAT(Take(), ElementsAre(1));
  EXPECT_THAT(Take(), ElementsAre(2));
  EXPECT_TRUE(queue_.empty());
}

TEST_F(UnitQueueTest, CancelledSwapsAreTakenOutAndOthersMoveUp) {
  ASSERT_OK(Push(1, 1, "math", {1}));
  ASSERT_OK(Push(1, 2, "math", {1}));
  ASSERT_OK(PushFfn(1, 3, 3));
  ASSERT_OK(Push(2, 1, "math", {1}));
  EXPECT_THAT(Ids(queue_.Cancel(1, {1, 3, 99})), ElementsAre(1, 3));
  EXPECT_THAT(Take(), ElementsAre(2, 1));
  EXPECT_TRUE(queue_.empty());
}

TEST_F(UnitQueueTest, RefusesWhenTooManySwapsOrBytesWait) {
  ASSERT_OK(Push(1, 1, "math", {1}, 50));  // 800 bytes and its sequence
  const absl::Status full = Push(1, 2, "math", {2}, 12);
  EXPECT_EQ(ReasonOf(full), SwapReason::kQueueFull);
  EXPECT_THAT(full, StatusIs(full.code(), HasSubstr("1 swaps of 832 bytes wait")));
  Take();
  for (uint64_t id = 2; id <= 7; ++id) ASSERT_OK(PushFfn(1, id, 3));
  EXPECT_EQ(ReasonOf(PushFfn(1, 8, 3)), SwapReason::kQueueFull);
  Take();
  EXPECT_OK(PushFfn(1, 8, 3));
}

TEST_F(UnitQueueTest, TheListsOfASwapCountToo) {
  ASSERT_OK(PushFfn(1, 1, 3, 2));
  // Rows, offsets, and experts and weights of two pairs a row.
  EXPECT_EQ(queue_.waiting_bytes(), 2 * 4 * 4 + 3 * 4 + 4 * (4 + 4));
}

TEST_F(UnitQueueTest, ASwapLargerThanTheBoundIsTakenWhenNothingElseWaits) {
  EXPECT_OK(Push(1, 1, "math", {1}, 1000));
}

TEST_F(UnitQueueTest, ASwapThatWaitsAlreadyIsRefused) {
  ASSERT_OK(PushFfn(1, 1, 3));
  EXPECT_EQ(ReasonOf(PushFfn(1, 1, 5)), SwapReason::kInvalid);
  EXPECT_THAT(Take(), ElementsAre(1));
  EXPECT_TRUE(queue_.empty());
}

TEST_F(UnitQueueTest, RemovesAllOfAPeerOrOfAUnit) {
  ASSERT_OK(Push(1, 1, "math", {1}, 35));
  ASSERT_OK(PushFfn(1, 2, 3));
  ASSERT_OK(Push(2, 3, "math", {1}));
  ASSERT_OK(Push(2, 4, "code", {1}));
  EXPECT_THAT(Ids(queue_.RemovePeer(1)), ElementsAre(1, 2));
  EXPECT_THAT(Ids(queue_.RemoveUnit({{"math", 1}, -1})), ElementsAre(3));
  EXPECT_THAT(queue_.RemoveUnit({{"math", 1}, -1}), IsEmpty());
  ASSERT_OK(Push(2, 5, "math", {3}, 30));
  EXPECT_THAT(Ids(queue_.RemoveAll()), ElementsAre(4, 5));
  EXPECT_TRUE(queue_.empty());
}

}  // namespace
}  // namespace ccoe::experts
