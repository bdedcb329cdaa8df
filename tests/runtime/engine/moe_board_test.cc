#include "runtime/engine/moe_board.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/base/parallel.h"
#include "tests/testing/fake_link.h"
#include "tests/testing/recording_sink.h"
#include "tests/testing/test_sequence.h"

namespace ccoe::engine {
namespace {

using ::ccoe::testing::AnswerRecorder;
using ::ccoe::testing::FakeLink;
using ::ccoe::testing::TestSequence;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

MoeBoardOptions Options() {
  MoeBoardOptions options;
  options.hidden_size = 2;
  options.wire_dtype = kernels::DType::kBF16;
  options.swap_timeout = absl::Seconds(10);
  options.step_patience = absl::Seconds(1);
  return options;
}

class MoeBoardTest : public ::testing::Test {
 protected:
  // Two rows of layer 3; row 0 goes to the first worker, both to the second.
  std::unique_ptr<MoeFlight> Flight() {
    auto flight = std::make_unique<MoeFlight>(BatchState(&ops_->device()));
    flight->branch.step = step_;
    flight->branch.cursor = 3;
    StepEntry& entry = flight->branch.entries.emplace_back();
    entry.sequence = TestSequence(1, 2, recorder_);
    entry.row_count = 2;
    flight->rows = std::vector<float>{1, 2, 3, 4};
    for (int w = 0; w < 2; ++w) {
      AwayPart& away = flight->away.emplace_back();
      away.peer = {w == 0 ? "expert-0" : "expert-1", links_[w]};
      away.part.rows = w == 0 ? std::vector<int32_t>{0} : std::vector<int32_t>{0, 1};
      away.part.dispatch.layer = 3;
      away.part.dispatch.offsets =
          w == 0 ? std::vector<int32_t>{0, 1} : std::vector<int32_t>{0, 1, 3};
      away.part.dispatch.experts = w == 0 ? std::vector<int32_t>{4} : std::vector<int32_t>{5, 6, 7};
      away.part.dispatch.weights.assign(away.part.dispatch.experts.size(), 0.5f);
    }
    return flight;
  }

  AnswerRecorder recorder_;
  ThreadTeam team_{1};
  std::unique_ptr<kernels::Ops> ops_ = kernels::MakeCpuOps(&team_);
  std::shared_ptr<Step> step_ = std::make_shared<Step>();
  std::vector<std::shared_ptr<FakeLink>> links_ = {std::make_shared<FakeLink>(),
                                                   std::make_shared<FakeLink>()};
  std::shared_ptr<RequestQueue> inbox_ = std::make_shared<RequestQueue>(4, 1);
  uint64_t last_id_ = 7;
  MoeBoard board_{Options(), inbox_, [this] { return ++last_id_; }};
};

TEST_F(MoeBoardTest, EachWorkerGetsItsRowsAndAFlightIsCompleteWhenAllAreBack) {
  board_.Hold(Flight());
  EXPECT_EQ(step_->swaps_in_flight, 1);
  ASSERT_THAT(links_[1]->headers(), SizeIs(1));
  const exchange::StepHeader header = links_[1]->headers()[0];
  EXPECT_EQ(header.step_id, 9u);
  EXPECT_EQ(header.wire_dtype, kernels::DType::kBF16);
  EXPECT_THAT(header.ffn->experts, ElementsAre(5, 6, 7));

  RequestQueue::Events events = inbox_->Take(absl::InfiniteFuture());
  ASSERT_THAT(events.answers, SizeIs(2));
  MoeFlight* flight = nullptr;
  for (SwapAnswer& answer : events.answers) {
    const auto landing = board_.Land(answer.swap_id, absl::Now());
    ASSERT_TRUE(landing.has_value());
    flight = landing->flight;
    EXPECT_FALSE(flight->complete());
    landing->part->rows = answer.result->rows;
    landing->part->arrived = true;
  }
  EXPECT_TRUE(flight->complete());
  EXPECT_THAT(flight->away.back().rows.host(), ElementsAre(1, 2, 3, 4, 3, 4));  // an echo a pair
  EXPECT_EQ(flight->away.front().Describe(12),
            "expert worker expert-0 over fake, step 12, layer 3");
  EXPECT_EQ(board_.Release(*flight)->branch.cursor, 3);
  EXPECT_EQ(step_->swaps_in_flight, 0);
  EXPECT_TRUE(board_.empty());
  EXPECT_FALSE(board_.Land(9, absl::Now()).has_value());
}

TEST_F(MoeBoardTest, WhatIsAwayCountsUntilPatienceEndsAndIsOverdueAfterTheDeadline) {
  links_[0]->Hold();
  links_[1]->Hold();
  board_.Hold(Flight());
  const absl::Time now = absl::Now();
  Occupancy occupancy;
  board_.Count(now, occupancy);
  EXPECT_EQ(occupancy.steps_in_flight, 1);
  EXPECT_EQ(occupancy.in_step, 1);
  EXPECT_LE(board_.NextEvent(now), now + absl::Seconds(1));
  Occupancy later;
  board_.Count(now + absl::Seconds(2), later);
  EXPECT_EQ(later.steps_in_flight, 0);
  EXPECT_THAT(board_.Overdue(now + absl::Seconds(10)), IsEmpty());
  EXPECT_THAT(board_.Overdue(now + absl::Seconds(12)), SizeIs(2));
}

TEST_F(MoeBoardTest, AnAbandonedFlightIsForgotten) {
  links_[0]->Hold();
  links_[1]->Hold();
  auto held = Flight();
  MoeFlight& flight = *held;
  board_.Hold(std::move(held));
  board_.Abandon(flight);
  EXPECT_EQ(step_->swaps_in_flight, 0);
  EXPECT_FALSE(board_.Land(8, absl::Now()).has_value());
  EXPECT_EQ(board_.NextEvent(absl::Now()), absl::InfiniteFuture());
}

}  // namespace
}  // namespace ccoe::engine
