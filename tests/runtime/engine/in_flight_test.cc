// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/in_flight.h"

#include <memory>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/base/parallel.h"
#include "tests/testing/fake_clock.h"
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
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t kHidden = 2;

class InFlightTableTest : public ::testing::Test {
 protected:
  InFlightTableTest() {
    options_.clock = &clock_;
    options_.wire_dtype = kernels::DType::kBF16;
    options_.step_patience = absl::Seconds(1);
    options_.hung_after = absl::Seconds(2);
    table_ = std::make_unique<InFlightTable>(options_, queue_);
  }

  MicroBatch Batch(int64_t rows) {
    MicroBatch batch;
    batch.step = step_;
    StepEntry& entry = batch.entries.emplace_back();
    entry.sequence = TestSequence(++handle_, rows, recorder_, binding_);
    entry.row_count = rows;
    return batch;
  }
  // Rows of one sequence on their way to math@1 over link 0.
  std::unique_ptr<Flight> ToLayers(int64_t rows) {
    auto flight = std::make_unique<Flight>();
    flight->binding = binding_;
    flight->batch = Batch(rows);
    AwaySwap& swap = flight->swaps.emplace_back();
    swap.peer = {"expert-0", links_[0]};
    swap.header.format = {kHidden, kernels::DType::kBF16};
    swap.header.work = LayerSwapFor(*binding_, flight->batch.entries, 8);
    swap.outgoing.block = std::vector<float>(rows * kHidden, 0.5f);
    return flight;
  }
  // Two rows of layer 3; row 0 goes to the first worker, both to the second.
  std::unique_ptr<Flight> ToFfnExperts() {
    auto flight = std::make_unique<Flight>();
    flight->batch = Batch(2);
    flight->batch.cursor = 3;
    flight->moe.emplace(BatchState(&ops_->device()));
    const exchange::RowBlock rows = std::vector<float>{1, 2, 3, 4};
    for (int w = 0; w < 2; ++w) {
      AwaySwap& swap = flight->swaps.emplace_back();
      swap.peer = {w == 0 ? "expert-0" : "expert-1", links_[w]};
      swap.header.format = {kHidden, kernels::DType::kBF16};
      exchange::FfnSwap ffn;
      ffn.layer = 3;
      ffn.offsets = w == 0 ? std::vector<int32_t>{0, 1} : std::vector<int32_t>{0, 1, 3};
      ffn.experts = w == 0 ? std::vector<int32_t>{4} : std::vector<int32_t>{5, 6, 7};
      ffn.weights.assign(ffn.experts.size(), 0.5f);
      swap.header.work = ffn;
      swap.part.rows = w == 0 ? std::vector<int32_t>{1} : std::vector<int32_t>{0, 1};
      swap.outgoing = {rows, swap.part.rows};
    }
    return flight;
  }
  Flight& Hold(std::unique_ptr<Flight> flight) {
    Flight& held = *flight;
    std::vector<std::unique_ptr<Flight>> flights;
    flights.push_back(std::move(flight));
    table_->Hold(std::move(flights));
    return held;
  }

  AnswerRecorder recorder_;
  testing::FakeClock clock_;  // at kTestTime
  EngineOptions options_;
  ThreadTeam team_{1};
  std::unique_ptr<kernels::Ops> ops_ = kernels::MakeCpuOps(&team_);
  std::shared_ptr<Step> step_ = std::make_shared<Step>();
  std::vector<std::shared_ptr<FakeLink>> links_ = {std::make_shared<FakeLink>(),
                                                   std::make_shared<FakeLink>()};
  std::shared_ptr<const ExpertBinding> binding_ = TestBinding("math", {4, 8}, links_[0]);
  std::shared_ptr<RequestQueue> queue_ = std::make_shared<RequestQueue>(4, 1);
  std::unique_ptr<InFlightTable> table_;
  uint64_t handle_ = 0;
};

TEST_F(InFlightTableTest, AnAnswerFindsItsFlight) {
  Flight& held = Hold(ToLayers(3));
  EXPECT_EQ(step_->flights, 1);
  RequestQueue::Events events = queue_->Take(absl::InfiniteDuration());
  ASSERT_THAT(events.answers, SizeIs(1));
  ASSERT_OK(events.answers[0].result);
  EXPECT_THAT(events.answers[0].result->rows, ElementsAre(0.5f, 0.5f));  // the last row
  const auto landing = table_->Land(events.answers[0].swap_id);
  ASSERT_TRUE(landing.has_value());
  EXPECT_EQ(landing->flight, &held);
  EXPECT_EQ(landing->swap->Describe(*step_), "expert math@1 over fake, swap 1, layers [4, 8)");
  EXPECT_TRUE(held.complete());
  table_->Release(held);
  EXPECT_EQ(step_->flights, 0);
  EXPECT_TRUE(table_->empty());
  EXPECT_FALSE(table_->Land(events.answers[0].swap_id).has_value());
  EXPECT_THAT(links_[0]->cancelled(), IsEmpty());
}

TEST_F(InFlightTableTest, SwapsOfOneLinkShareAnEnvelopeWithRisingIds) {
  std::vector<std::unique_ptr<Flight>> flights;
  flights.push_back(ToLayers(1));
  flights.push_back(ToLayers(2));
  table_->Hold(std::move(flights));
  EXPECT_EQ(step_->flights, 2);
  EXPECT_THAT(links_[0]->envelopes(), ElementsAre(2));
  const auto headers = links_[0]->headers();
  ASSERT_THAT(headers, SizeIs(2));
  EXPECT_LT(headers[0].id, headers[1].id);
  EXPECT_OK(exchange::Validate(headers[1], kHidden));
}

TEST_F(InFlightTableTest, AnEnvelopeIsCutWhereTheLinkMayCarryLess) {
  exchange::LinkBounds bounds;
  bounds.max_bytes = 4 * kHidden * 2;  // four rows of bf16
  links_[0]->SetBounds(bounds);
  std::vector<std::unique_ptr<Flight>> flights;
  for (const int64_t rows : {3, 1, 2}) flights.push_back(ToLayers(rows));
  table_->Hold(std::move(flights));
  EXPECT_THAT(links_[0]->envelopes(), ElementsAre(2, 1));
}

TEST_F(InFlightTableTest, EachWorkerGetsItsRowsAndAFlightIsCompleteWhenAllAreBack) {
  Flight& held = Hold(ToFfnExperts());
  EXPECT_EQ(step_->flights, 1);
  ASSERT_THAT(links_[1]->headers(), SizeIs(1));
  EXPECT_THAT(links_[1]->headers()[0].ffn()->experts, ElementsAre(5, 6, 7));
  RequestQueue::Events events = queue_->Take(absl::InfiniteDuration());
  ASSERT_THAT(events.answers, SizeIs(2));
  for (SwapAnswer& answer : events.answers) {
    EXPECT_FALSE(held.complete());
    const auto landing = table_->Land(answer.swap_id);
    ASSERT_TRUE(landing.has_value());
    landing->swap->rows = answer.result->rows;
  }
  EXPECT_TRUE(held.complete());
  EXPECT_THAT(held.swaps.front().rows.host(), ElementsAre(3, 4));             // row 1
  EXPECT_THAT(held.swaps.back().rows.host(), ElementsAre(1, 2, 3, 4, 3, 4));  // an echo a pair
  step_->id = 12;
  EXPECT_EQ(held.swaps.front().Describe(*step_),
            "expert worker expert-0 over fake, step 12, layer 3");
  EXPECT_EQ(table_->Release(held)->batch.cursor, 3);
  EXPECT_EQ(step_->flights, 0);
}

TEST_F(InFlightTableTest, PairsWhoseWorkersAreFullKeepAFlightWaitingUntilTheirNextTry) {
  Flight& held = Hold(ToFfnExperts());
  for (SwapAnswer& answer : queue_->Take(absl::InfiniteDuration()).answers) {
    table_->Land(answer.swap_id);
  }
  held.moe->unplaced = {0};
  held.moe->next_try = kTestTime + absl::Milliseconds(50);
  EXPECT_FALSE(held.complete());
  EXPECT_EQ(table_->NextEvent(kTestTime), kTestTime + absl::Milliseconds(50));
  EXPECT_THAT(table_->DueMoe(kTestTime), IsEmpty());
  EXPECT_THAT(table_->DueMoe(kTestTime + absl::Milliseconds(50)), ElementsAre(&held));
}

TEST_F(InFlightTableTest, StepsThatTakeTooLongAreNotWaitedFor) {
  for (const auto& link : links_) link->Hold();
  Hold(ToLayers(1));
  Hold(ToFfnExperts());
  Occupancy now;
  table_->Count(kTestTime, now);
  EXPECT_EQ(now.steps_in_flight, 1);
  EXPECT_EQ(now.in_step, 2);
  EXPECT_EQ(table_->NextEvent(kTestTime), kTestTime + absl::Seconds(1));
  Occupancy later;
  table_->Count(kTestTime + absl::Minutes(1), later);
  EXPECT_EQ(later.steps_in_flight, 0);
  EXPECT_EQ(later.in_step, 0);
}

TEST_F(InFlightTableTest, WhatHangsIsNamedOnce) {
  links_[0]->Hold();
  Hold(ToLayers(1));
  step_->id = 12;
  EXPECT_THAT(table_->TakeHung(kTestTime + absl::Seconds(1.9)), IsEmpty());
  EXPECT_EQ(table_->NextEvent(kTestTime + absl::Seconds(1.9)), kTestTime + absl::Seconds(2));
  EXPECT_THAT(table_->TakeHung(kTestTime + absl::Seconds(2)),
              ElementsAre(AllOf(HasSubstr("math@1"), HasSubstr("worker expert-0"),
                                HasSubstr("step 12"), HasSubstr("layers [4, 8)"), HasSubstr("2s"),
                                HasSubstr("held by the test"))));
  EXPECT_THAT(table_->TakeHung(kTestTime + absl::Seconds(9)), IsEmpty());
  EXPECT_EQ(table_->NextEvent(kTestTime + absl::Seconds(9)), absl::InfiniteFuture());
}

TEST_F(InFlightTableTest, AReleasedFlightIsForgottenAndWhatIsAwayCancelled) {
  for (const auto& link : links_) link->Hold();
  Flight& held = Hold(ToFfnExperts());
  table_->Release(held);
  EXPECT_EQ(step_->flights, 0);
  EXPECT_FALSE(table_->Land(1).has_value());
  EXPECT_THAT(links_[0]->cancelled(), SizeIs(1));
  EXPECT_THAT(links_[1]->cancelled(), SizeIs(1));
  EXPECT_EQ(table_->NextEvent(kTestTime), absl::InfiniteFuture());
}

TEST_F(InFlightTableTest, OnlySwapsThatNobodyWaitsForAreCancelled) {
  links_[0]->Hold();
  const Flight& dead = Hold(ToLayers(1));
  Hold(ToLayers(1));
  dead.batch.entries[0].sequence->Finish(FinishReason::kCancelled, absl::CancelledError("x"),
                                         kTestTime);
  table_->CancelDead();
  EXPECT_THAT(links_[0]->cancelled(), ElementsAre(1));
}

TEST_F(InFlightTableTest, AnAnswerMayComeAfterTheTableIsGone) {
  links_[0]->Hold();
  Hold(ToLayers(1));
  table_.reset();
  links_[0]->LetGo();
  EXPECT_THAT(queue_->Take(absl::ZeroDuration()).answers, SizeIs(1));
}

}  // namespace
}  // namespace ccoe::engine
