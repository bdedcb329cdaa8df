#include "runtime/experts/swap_router.h"

#include <memory>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/exchange/swap_recorder.h"
#include "tests/testing/fake_swap_handler.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::experts {
namespace {

using ::ccoe::testing::FakeSwapHandler;
using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

constexpr int64_t kHidden = 4;

class SwapRouterTest : public ::testing::Test {
 protected:
  static exchange::StepHeader Layer(uint64_t step) {
    return exchange::MakeHeader(step, {{1, 0, 2, exchange::ReturnRows::kAll}}, kHidden);
  }
  static exchange::StepHeader Ffn(uint64_t step) {
    return exchange::MakeDispatch(step, {{0, 1}, {2}}, kHidden);
  }
  void Send(SwapRouter& router, uint64_t peer, const exchange::StepHeader& header) {
    router.HandleSwap(peer, header, exchange::TaggedRows(header, peer),
                      recorder_.Keep(header.step_id));
  }

  FakeSwapHandler layers_{kHidden}, ffn_{kHidden};
  exchange::SwapRecorder recorder_;
};

TEST_F(SwapRouterTest, EachSwapGoesToItsRunnerAndReleasesToTheLayerExperts) {
  layers_.AddPeer();  // so that the runners' ids differ
  ASSERT_OK_AND_ASSIGN(const auto router, SwapRouter::Create(&layers_, &ffn_));
  EXPECT_EQ(router->hidden_size(), kHidden);
  const uint64_t peer = router->AddPeer();
  Send(*router, peer, Layer(1));
  Send(*router, peer, Ffn(2));
  router->HandleRelease(peer, 44);
  for (const exchange::StepHeader& header : {Layer(1), Ffn(2)}) {
    const auto answer = recorder_.Await(header.step_id);
    ASSERT_OK(answer.status());
    EXPECT_EQ(answer->rows,
              FakeSwapHandler::Negated(header, exchange::TaggedRows(header, peer)).rows);
  }
  ASSERT_EQ(layers_.events().size(), 2);
  EXPECT_EQ(layers_.events()[0].step_id, 1);
  EXPECT_EQ(layers_.events()[1].sequence_id, 44);
  ASSERT_EQ(ffn_.events().size(), 1);
  EXPECT_EQ(ffn_.events()[0].step_id, 2);
}

TEST_F(SwapRouterTest, APeerThatLeavesLeavesBothRunners) {
  ASSERT_OK_AND_ASSIGN(const auto router, SwapRouter::Create(&layers_, &ffn_));
  const uint64_t peer = router->AddPeer(), other = router->AddPeer();
  layers_.Hold();
  ffn_.Hold();
  Send(*router, peer, Layer(1));
  Send(*router, peer, Ffn(2));
  Send(*router, other, Ffn(3));
  router->RemovePeer(peer);
  for (uint64_t step = 1; step <= 2; ++step) {
    EXPECT_EQ(recorder_.calls(step), 1);
    EXPECT_THAT(recorder_.Await(step), StatusIs(absl::StatusCode::kUnavailable));
  }
  EXPECT_EQ(layers_.peers(), 1);
  EXPECT_EQ(ffn_.peers(), 1);
  Send(*router, peer, Ffn(4));
  EXPECT_THAT(recorder_.Await(4), StatusIs(absl::StatusCode::kUnavailable));
  router->RemovePeer(peer);
  router->HandleRelease(peer, 1);
  ffn_.AnswerHeld();
  EXPECT_OK(recorder_.Await(3).status());
}

TEST_F(SwapRouterTest, AWorkerWithOneKindOfExpertSaysThatItHasNotTheOther) {
  ASSERT_OK_AND_ASSIGN(const auto only_ffn, SwapRouter::Create(nullptr, &ffn_));
  EXPECT_EQ(only_ffn->hidden_size(), kHidden);
  const uint64_t peer = only_ffn->AddPeer();
  only_ffn->HandleRelease(peer, 1);
  Send(*only_ffn, peer, Layer(1));
  EXPECT_THAT(recorder_.Await(1), StatusIs(absl::StatusCode::kNotFound,
                                           HasSubstr("step 1: this worker holds no layer")));
  Send(*only_ffn, peer, Ffn(2));
  EXPECT_OK(recorder_.Await(2).status());
  only_ffn->RemovePeer(peer);
  ASSERT_OK_AND_ASSIGN(const auto only_layers, SwapRouter::Create(&layers_, nullptr));
  Send(*only_layers, only_layers->AddPeer(), Ffn(3));
  EXPECT_THAT(recorder_.Await(3),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no FFN experts")));
}

TEST_F(SwapRouterTest, RefusesNoRunnersAndDifferentWidths) {
  FakeSwapHandler wide(8);
  EXPECT_THAT(SwapRouter::Create(nullptr, nullptr), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(
      SwapRouter::Create(&layers_, &wide),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("width 4, the FFN experts' 8")));
}

}  // namespace
}  // namespace ccoe::experts
