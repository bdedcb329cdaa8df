// SPDX-License-Identifier: Apache-2.0
// What every ActivationLink must do with dispatches to FFN experts.
#include <cmath>
#include <limits>
#include <thread>

#include "gmock/gmock.h"
#include "runtime/exchange/row_block.h"
#include "tests/runtime/exchange/link_conformance.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::exchange {
namespace {

using ::ccoe::testing::FakeSwapHandler;
using ::testing::HasSubstr;

// Rows through 1 to 3 experts, as the swap and row have it.
SwapHeader Dispatch(uint64_t swap, int64_t rows, int64_t hidden_size, bool combine = false) {
  std::vector<std::vector<int32_t>> experts(rows);
  for (int64_t row = 0; row < rows; ++row) {
    for (int32_t i = 0; i <= (row + static_cast<int64_t>(swap)) % 3; ++i) {
      experts[row].push_back(static_cast<int32_t>(row % 5) + 2 * i);
    }
  }
  return MakeDispatch(swap, experts, hidden_size, combine);
}

}  // namespace

TEST_P(LinkConformanceTest, ADispatchComesBackByRowAndExpertOrCombined) {
  Start();
  for (const bool combine : {false, true}) {
    const SwapHeader header = Dispatch(combine ? 2 : 1, 7, setup_.hidden_size, combine);
    Send(header, 3);
    ExpectAnswer(header, 3);
    EXPECT_EQ(recorder_.Await(header.id)->rows.size(),
              (combine ? 7 : header.ffn()->pairs()) * setup_.hidden_size);
  }
}

TEST_P(LinkConformanceTest, ADispatchsListsArriveWhole) {
  Start();
  SwapHeader header = MakeDispatch(5, {{0, 127, 128}, {1023}, {4, 5}}, setup_.hidden_size, true);
  FfnOf(header).layer = 60;
  FfnOf(header).weights[1] = -0.0f;
  FfnOf(header).weights[2] = std::numeric_limits<float>::denorm_min();
  Send(header);
  ExpectAnswer(header);
  const SwapHeader seen = handler_->events().at(0).header;
  ASSERT_NE(seen.ffn(), nullptr);
  EXPECT_EQ(seen.id, 5);
  EXPECT_EQ(seen.ffn()->layer, 60);
  EXPECT_TRUE(seen.ffn()->combine);
  EXPECT_EQ(seen.ffn()->offsets, header.ffn()->offsets);
  EXPECT_EQ(seen.ffn()->experts, header.ffn()->experts);
  EXPECT_EQ(seen.ffn()->weights, header.ffn()->weights);
  EXPECT_TRUE(std::signbit(seen.ffn()->weights[1]));
}

TEST_P(LinkConformanceTest, BF16DispatchesAreRoundedOnceEachWay) {
  Start();
  for (const bool combine : {false, true}) {
    SwapHeader header = Dispatch(combine ? 2 : 1, 5, setup_.hidden_size, combine);
    header.format.dtype = kernels::DType::kBF16;
    std::vector<float> rows(header.rows() * setup_.hidden_size);
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = 1.0f / static_cast<float>(i + 3);
    recorder_.Send(*link_, header, rows);
    RoundToWire(header.format.dtype, absl::MakeSpan(rows));
    SwapResult expected = FakeSwapHandler::Negated(header, rows);
    RoundToWire(header.format.dtype, absl::MakeSpan(expected.rows));
    const absl::StatusOr<SwapResult> answer = recorder_.Await(header.id);
    ASSERT_OK(answer.status());
    EXPECT_EQ(answer->rows, expected.rows);
  }
}

TEST_P(LinkConformanceTest, DispatchesAndSwapsShareTheOrderOfTheLink) {
  Start();
  auto header = [this](uint64_t swap) {
    return swap % 2 == 0 ? Header(swap) : Dispatch(swap, 4, setup_.hidden_size, swap % 3 == 0);
  };
  for (uint64_t swap = 1; swap <= 40; ++swap) Send(header(swap));
  for (uint64_t swap = 1; swap <= 40; ++swap) ExpectAnswer(header(swap));
  const std::vector<FakeSwapHandler::Event> events = handler_->events();
  ASSERT_EQ(events.size(), 40);
  for (uint64_t swap = 1; swap <= 40; ++swap) EXPECT_EQ(events[swap - 1].swap_id, swap);
}

TEST_P(LinkConformanceTest, WrongDispatchesAreRefusedWithoutLeaving) {
  LinkSetup setup;
  setup.limits.max_rows = 8;
  setup.limits.max_experts_per_row = 3;
  Start(setup);
  uint64_t swap = 0;
  auto refused = [&](SwapHeader header, const char* why) {
    header.id = ++swap;
    link_->Send(OneSwap(header, std::vector<float>(header.rows() * 4)), recorder_.Keep());
    EXPECT_THAT(recorder_.Await(swap), FailsWith(SwapReason::kInvalid, HasSubstr(why)));
  };
  const SwapHeader good = Dispatch(1, 3, 4);
  refused(Dispatch(1, 9, 4), "1 to 8, found 9");
  refused(MakeDispatch(1, {{0, 1, 2, 3}}, 4), "1 to 3 experts, found 4");
  refused(MakeDispatch(1, {{0}, {}}, 4), "dispatch row 1");
  refused(MakeDispatch(1, {{2, 1}}, 4), "experts that rise");
  refused(Dispatch(1, 3, 5), "hidden_size");
  SwapHeader header = good;
  FfnOf(header).weights.pop_back();
  refused(header, "as many weights");
  header = good;
  FfnOf(header).weights[0] = std::nanf("");
  refused(header, "finite weight");
  header = good;
  header.id = ++swap;
  link_->Send(OneSwap(header, std::vector<float>(header.ffn()->pairs() * 4)), recorder_.Keep());
  EXPECT_THAT(recorder_.Await(swap),
              FailsWith(SwapReason::kInvalid, HasSubstr("expected [3, 4] f32")));
  EXPECT_TRUE(handler_->events().empty());
  header.id = ++swap;
  Send(header);
  ExpectAnswer(header);
  EXPECT_OK(link_->Health());
}

TEST_P(LinkConformanceTest, SeveralPeersGetTheirOwnDispatchesBack) {
  Start();
  constexpr uint64_t kPeers = 4, kSwaps = 25;
  std::vector<std::thread> threads;
  for (uint64_t peer = 1; peer <= kPeers; ++peer) {
    threads.emplace_back([this, peer] {
      const std::unique_ptr<ActivationLink> link = Connect();
      ASSERT_NE(link, nullptr);
      SwapRecorder recorder;
      for (uint64_t swap = 1; swap <= kSwaps; ++swap) {
        const SwapHeader header = Dispatch(swap, 1 + swap % 9, setup_.hidden_size, peer % 2 == 0);
        recorder.Send(*link, header, TaggedRows(header, peer));
        const absl::StatusOr<SwapResult> answer = recorder.Await(swap);
        ASSERT_OK(answer.status());
        EXPECT_EQ(answer->rows, FakeSwapHandler::Negated(header, TaggedRows(header, peer)).rows);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_P(LinkConformanceTest, AnAnswerWithOneRowTooFewIsAnErrorNotMemory) {
  Start();
  handler_->SetScript([](const SwapHeader& header) {
    SwapResult result;
    result.rows.resize((header.returned_rows() - 1) * header.format.hidden_size);
    return result;
  });
  Send(Dispatch(1, 4, setup_.hidden_size));
  EXPECT_THAT(recorder_.Await(1), FailsWith(SwapReason::kInternal));
}

TEST_P(LinkConformanceTest, AWorkerThatStopsEndsItsDispatchesWithLinkBroken) {
  if (!GetParam().worker_can_die) GTEST_SKIP() << "worker and link end together";
  Start();
  handler_->Hold();
  for (uint64_t swap = 1; swap <= 3; ++swap) Send(Dispatch(swap, 2, setup_.hidden_size));
  ASSERT_TRUE(handler_->AwaitEvents(3));
  worker_.reset();
  for (uint64_t swap = 1; swap <= 3; ++swap) {
    EXPECT_THAT(recorder_.Await(swap), FailsWith(SwapReason::kLinkBroken));
    EXPECT_EQ(recorder_.calls(swap), 1);
  }
}

}  // namespace ccoe::exchange
