#include "runtime/experts/ffn_queue.h"

#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/exchange/swap_recorder.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::experts {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<uint64_t> Steps(const std::vector<WaitingSwap>& swaps) {
  std::vector<uint64_t> steps;
  for (const WaitingSwap& swap : swaps) steps.push_back(swap.header.step_id);
  return steps;
}

class FfnQueueTest : public ::testing::Test {
 protected:
  // Rows of two pairs each.
  absl::Status Push(uint64_t peer, uint64_t step, int32_t layer, int64_t rows = 1) {
    WaitingSwap swap;
    swap.peer_id = peer;
    swap.header = exchange::MakeDispatch(step, std::vector<std::vector<int32_t>>(rows, {0, 1}), 4);
    swap.header.ffn->layer = layer;
    return queue_.Push(std::move(swap));
  }
  std::vector<uint64_t> Take() { return Steps(queue_.Take()); }

  FfnQueue queue_{{/*max_batch_pairs=*/12, /*max_waiting_swaps=*/6, /*max_waiting_rows=*/20}};
};

TEST_F(FfnQueueTest, SwapsOfTheOldestsLayerAreTakenTogether) {
  ASSERT_OK(Push(1, 10, 3));
  ASSERT_OK(Push(2, 20, 5));
  ASSERT_OK(Push(3, 30, 3));
  ASSERT_OK(Push(1, 11, 3));
  EXPECT_EQ(queue_.waiting_rows(), 4);
  EXPECT_THAT(Take(), ElementsAre(10, 30, 11));
  EXPECT_THAT(Take(), ElementsAre(20));
  EXPECT_THAT(Take(), IsEmpty());
  EXPECT_TRUE(queue_.empty());
  EXPECT_EQ(queue_.waiting_rows(), 0);
}

TEST_F(FfnQueueTest, APeersSwapsAreNotOvertakenByItsOwn) {
  ASSERT_OK(Push(1, 10, 3));
  ASSERT_OK(Push(1, 11, 5));
  ASSERT_OK(Push(1, 12, 3));
  ASSERT_OK(Push(2, 20, 3));
  EXPECT_THAT(Take(), ElementsAre(10, 20));
  EXPECT_THAT(Take(), ElementsAre(11));
  EXPECT_THAT(Take(), ElementsAre(12));
}

TEST_F(FfnQueueTest, APassHasSoManyPairsAndALargerSwapRunsAlone) {
  ASSERT_OK(Push(1, 10, 3, 4));
  ASSERT_OK(Push(2, 20, 3, 3));  // 8 + 6 pairs are too many
  ASSERT_OK(Push(3, 30, 3, 2));
  EXPECT_THAT(Take(), ElementsAre(10, 30));
  EXPECT_THAT(Take(), ElementsAre(20));
  ASSERT_OK(Push(1, 11, 3, 9));
  ASSERT_OK(Push(2, 21, 3, 1));
  EXPECT_THAT(Take(), ElementsAre(11));
  EXPECT_THAT(Take(), ElementsAre(21));
}

TEST_F(FfnQueueTest, TooManySwapsOrRowsAreRefused) {
  ASSERT_OK(Push(1, 1, 3, 30));  // nothing else waits
  EXPECT_THAT(Push(1, 2, 3), StatusIs(absl::StatusCode::kResourceExhausted,
                                      HasSubstr("step 2: 1 swaps of 30 rows wait")));
  Take();
  for (uint64_t step = 3; step <= 8; ++step) ASSERT_OK(Push(1, step, 3));
  EXPECT_THAT(Push(1, 9, 3),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("at most 6 of 20 rows")));
}

TEST_F(FfnQueueTest, APeersSwapsCanBeTakenOut) {
  ASSERT_OK(Push(1, 10, 3, 2));
  ASSERT_OK(Push(2, 20, 3, 3));
  ASSERT_OK(Push(1, 11, 5, 4));
  EXPECT_THAT(Steps(queue_.RemovePeer(1)), ElementsAre(10, 11));
  EXPECT_EQ(queue_.waiting_rows(), 3);
  EXPECT_THAT(Steps(queue_.RemoveAll()), ElementsAre(20));
  EXPECT_TRUE(queue_.empty());
}

}  // namespace
}  // namespace ccoe::experts
