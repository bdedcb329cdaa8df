#include "runtime/engine/swap_board.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/fake_link.h"
#include "tests/testing/recording_sink.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_sequence.h"

namespace ccoe::engine {
namespace {

using ::ccoe::testing::AnswerRecorder;
using ::ccoe::testing::FakeLink;
using ::ccoe::testing::kTestTime;
using ::ccoe::testing::TestBinding;
using ::ccoe::testing::TestSequence;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int64_t kHidden = 2;

SwapBoardOptions Options() {
  SwapBoardOptions options;
  options.hidden_size = kHidden;
  options.layer_count = 8;
  options.wire_dtype = kernels::DType::kBF16;
  options.swap_timeout = absl::Seconds(10);
  options.step_patience = absl::Seconds(1);
  return options;
}

class SwapBoardTest : public ::testing::Test {
 protected:
  std::shared_ptr<Sequence> Send(std::shared_ptr<Step> step, int64_t rows) {
    StepEntry entry;
    entry.sequence = TestSequence(++handle_, rows, recorder_, binding_);
    entry.sequence->Admit(handle_, kTestTime);
    entry.row_count = rows;
    const std::vector<float> values(rows * kHidden, 0.5f);
    board_.Send(std::move(step), binding_, {entry}, values);
    return entry.sequence;
  }

  AnswerRecorder recorder_;
  std::shared_ptr<FakeLink> link_ = std::make_shared<FakeLink>();
  std::shared_ptr<const ExpertBinding> binding_ = TestBinding("math", {4, 8}, link_);
  std::shared_ptr<RequestQueue> inbox_ = std::make_shared<RequestQueue>(4, 1);
  SwapBoard board_{Options(), inbox_};
  uint64_t handle_ = 0;
};

TEST_F(SwapBoardTest, AnAnswerFindsItsFlight) {
  const auto step = std::make_shared<Step>();
  const auto sequence = Send(step, 3);
  EXPECT_TRUE(sequence->swapped);
  EXPECT_EQ(step->swaps_in_flight, 1);
  RequestQueue::Events events = inbox_->Take(absl::InfiniteFuture());
  ASSERT_EQ(events.answers.size(), 1u);
  ASSERT_OK(events.answers[0].result);
  EXPECT_THAT(events.answers[0].result->rows, ElementsAre(0.5f, 0.5f));  // the last row
  const auto flight = board_.Land(events.answers[0].swap_id, absl::Now());
  ASSERT_TRUE(flight.has_value());
  EXPECT_EQ(flight->entries[0].sequence, sequence);
  EXPECT_EQ(flight->Describe(), "expert math@1 over fake, swap 1, layers [4, 8)");
  EXPECT_EQ(step->swaps_in_flight, 0);
  EXPECT_FALSE(board_.Land(events.answers[0].swap_id, absl::Now()).has_value());
}

TEST_F(SwapBoardTest, TheHeaderCarriesFormatsAndARisingId) {
  const auto step = std::make_shared<Step>();
  Send(step, 1);
  Send(step, 2);
  const auto headers = link_->headers();
  ASSERT_EQ(headers.size(), 2u);
  EXPECT_LT(headers[0].step_id, headers[1].step_id);
  EXPECT_EQ(headers[0].hidden_size, kHidden);
  EXPECT_EQ(headers[0].wire_dtype, kernels::DType::kBF16);
  EXPECT_OK(exchange::Validate(headers[1], kHidden));
  EXPECT_EQ(board_.WireBytes(3), 3 * kHidden * 2);
}

TEST_F(SwapBoardTest, StepsThatTakeTooLongAreNotWaitedFor) {
  link_->Hold();
  const auto step = std::make_shared<Step>();
  const absl::Time before = absl::Now();
  Send(step, 1);
  Send(step, 1);
  Occupancy now;
  board_.Count(before, now);
  EXPECT_EQ(now.steps_in_flight, 1);
  EXPECT_EQ(now.in_step, 2);
  EXPECT_GE(board_.NextEvent(before), before + absl::Seconds(1));
  Occupancy later;
  board_.Count(before + absl::Minutes(1), later);
  EXPECT_EQ(later.steps_in_flight, 0);
  EXPECT_EQ(later.in_step, 0);
}

TEST_F(SwapBoardTest, ALinkThatNeverAnswersIsGivenUpSomeTimeAfterTheDeadline) {
  link_->Hold();
  const absl::Time before = absl::Now();
  Send(std::make_shared<Step>(), 1);
  EXPECT_THAT(board_.Overdue(before + absl::Seconds(10)), IsEmpty());
  EXPECT_THAT(board_.Overdue(before + absl::Minutes(1)), ElementsAre(1));
}

TEST_F(SwapBoardTest, AnAnswerMayComeAfterTheBoardIsGone) {
  link_->Hold();
  {
    SwapBoard board(Options(), inbox_);
    StepEntry entry;
    entry.sequence = TestSequence(9, 1, recorder_, binding_);
    entry.sequence->Admit(9, kTestTime);
    entry.row_count = 1;
    board.Send(std::make_shared<Step>(), binding_, {entry}, std::vector<float>(kHidden));
  }
  link_->LetGo();
  EXPECT_EQ(inbox_->Take(absl::InfinitePast()).answers.size(), 1u);
}

}  // namespace
}  // namespace ccoe::engine
