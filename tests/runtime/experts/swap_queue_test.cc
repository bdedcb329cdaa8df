#include "runtime/experts/swap_queue.h"

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/exchange/row_memory.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::experts {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

class SwapQueueTest : public ::testing::Test {
 protected:
  absl::Status Push(uint64_t peer, uint64_t step, const std::string& expert,
                    std::vector<uint64_t> sequences, int64_t rows = 1, bool capture = false) {
    WaitingSwap swap;
    swap.peer_id = peer;
    swap.header.step_id = step;
    swap.header.expert = {expert, 1};
    swap.header.capture_layers = capture;
    for (const uint64_t sequence : sequences) swap.header.sequences.push_back({sequence, 0, rows});
    return queue_.Push(std::move(swap));
  }

  // Steps of the next pass.
  std::vector<uint64_t> Take() {
    SwapQueue::Pass pass = queue_.Take();
    releases_ = pass.releases;
    std::vector<uint64_t> steps;
    for (const WaitingSwap& swap : pass.swaps) steps.push_back(swap.header.step_id);
    return steps;
  }

  SwapQueue queue_{{/*max_batch_rows=*/8, /*max_waiting_swaps=*/6, /*max_waiting_rows=*/40}};
  std::vector<SwapQueue::SequenceKey> releases_;
};

TEST_F(SwapQueueTest, MergesWhatWaitsForTheExpertOfTheOldestSwap) {
  ASSERT_OK(Push(1, 1, "math", {1}));
  ASSERT_OK(Push(1, 2, "code", {2}));
  ASSERT_OK(Push(2, 3, "math", {1}));
  ASSERT_OK(Push(1, 4, "math", {3}));
  EXPECT_EQ(queue_.waiting_rows({"math", 1}), 3);
  EXPECT_THAT(Take(), ElementsAre(1, 3, 4));
  EXPECT_THAT(Take(), ElementsAre(2));
  EXPECT_TRUE(queue_.empty());
  EXPECT_THAT(Take(), IsEmpty());
}

TEST_F(SwapQueueTest, ASequenceIsInAPassOnceAndItsPeersLaterSwapsWait) {
  ASSERT_OK(Push(1, 1, "math", {1, 2}));
  ASSERT_OK(Push(1, 2, "math", {2}));
  ASSERT_OK(Push(1, 3, "math", {9}));  // would overtake step 2 of its peer
  ASSERT_OK(Push(2, 4, "math", {2}));  // another peer's sequence 2
  EXPECT_THAT(Take(), ElementsAre(1, 4));
  EXPECT_THAT(Take(), ElementsAre(2, 3));
}

TEST_F(SwapQueueTest, ASequenceDoesNotOvertakeItselfAtAnotherExpert) {
  ASSERT_OK(Push(1, 1, "math", {1}));
  ASSERT_OK(Push(1, 2, "code", {5}));
  ASSERT_OK(Push(1, 3, "math", {5}));
  EXPECT_THAT(Take(), ElementsAre(1));
  EXPECT_THAT(Take(), ElementsAre(2));
  EXPECT_THAT(Take(), ElementsAre(3));
}

TEST_F(SwapQueueTest, BoundsTheRowsOfAPassButNeverStarvesALargeSwap) {
  ASSERT_OK(Push(1, 1, "math", {1}, 5));
  ASSERT_OK(Push(2, 2, "math", {1}, 20));
  ASSERT_OK(Push(3, 3, "math", {1}, 3));
  EXPECT_THAT(Take(), ElementsAre(1, 3));
  ASSERT_OK(Push(3, 4, "math", {1}, 1));
  EXPECT_THAT(Take(), ElementsAre(2));
  EXPECT_THAT(Take(), ElementsAre(4));
}

TEST_F(SwapQueueTest, SwapsThatCaptureLayersRunAlone) {
  ASSERT_OK(Push(1, 1, "math", {1}));
  ASSERT_OK(Push(2, 2, "math", {1}, 1, /*capture=*/true));
  ASSERT_OK(Push(3, 3, "math", {1}));
  EXPECT_THAT(Take(), ElementsAre(1, 3));
  ASSERT_OK(Push(3, 4, "math", {2}));
  EXPECT_THAT(Take(), ElementsAre(2));
  EXPECT_THAT(Take(), ElementsAre(4));
}

TEST_F(SwapQueueTest, AReleaseKeepsItsPlaceAmongTheSwapsOfItsSequence) {
  ASSERT_OK(Push(1, 1, "math", {1}));
  queue_.PushRelease({1, 1});
  queue_.PushRelease({1, 2});
  ASSERT_OK(Push(1, 2, "math", {1}));
  EXPECT_THAT(Take(), ElementsAre(1));
  EXPECT_THAT(releases_, ElementsAre(Pair(1, 2)));
  EXPECT_THAT(Take(), ElementsAre(2));
  EXPECT_THAT(releases_, ElementsAre(Pair(1, 1)));
}

TEST_F(SwapQueueTest, ReleasesAloneMakeAPass) {
  queue_.PushRelease({4, 4});
  EXPECT_FALSE(queue_.empty());
  EXPECT_THAT(Take(), IsEmpty());
  EXPECT_THAT(releases_, ElementsAre(Pair(4, 4)));
  EXPECT_TRUE(queue_.empty());
}

TEST_F(SwapQueueTest, RefusesWhenTooMuchWaits) {
  ASSERT_OK(Push(1, 1, "math", {1}, 35));
  EXPECT_THAT(Push(1, 2, "math", {2}, 6),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("1 swaps of 35 rows wait")));
  for (uint64_t step = 2; step <= 6; ++step) ASSERT_OK(Push(1, step, "math", {step}));
  EXPECT_THAT(Push(1, 7, "math", {7}), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(Take(), ElementsAre(1));
  EXPECT_OK(Push(1, 7, "math", {7}));
}

TEST_F(SwapQueueTest, ASwapLargerThanTheBoundIsTakenWhenNothingElseWaits) {
  EXPECT_OK(Push(1, 1, "math", {1}, 1000));
}

TEST_F(SwapQueueTest, RemovesAllOfAPeer) {
  ASSERT_OK(Push(1, 1, "math", {1}, 35));
  ASSERT_OK(Push(2, 2, "math", {1}));
  queue_.PushRelease({1, 1});
  EXPECT_EQ(queue_.RemovePeer(1).size(), 1);
  ASSERT_OK(Push(2, 3, "math", {3}, 30));
  EXPECT_EQ(queue_.RemoveAll().size(), 2);
  EXPECT_TRUE(queue_.empty());
}

TEST(CheckRowsTest, RowsMustBeAsManyAsTheHeadersAndOfTheRunnersDevice) {
  testing::TaggedDevice device, other;
  ASSERT_OK_AND_ASSIGN(const auto memory, exchange::RowMemory::Create(&device, 4096));
  ASSERT_OK_AND_ASSIGN(const auto fresh, memory->Take(3, 8, kernels::DType::kBF16));
  WaitingSwap swap;
  swap.header.step_id = 5;
  swap.header.sequences = {{1, 0, 3}};
  swap.rows = std::vector<float>(23);
  EXPECT_THAT(CheckRows(swap, 8, device),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("rows of step 5: expected 24 values, found 23")));
  swap.rows = std::vector<float>(24);
  EXPECT_OK(CheckRows(swap, 8, device));
  swap.rows = fresh.block;
  EXPECT_OK(CheckRows(swap, 8, device));
  EXPECT_THAT(CheckRows(swap, 8, other),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found in tagged:0")));
}

}  // namespace
}  // namespace ccoe::experts
