#include "runtime/experts/ffn_runner.h"

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/exchange/local/local_link.h"
#include "tests/runtime/experts/tiny_ffn_experts.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::experts {
namespace {

using ::ccoe::testing::StatusIs;
using exchange::StepHeader;
using exchange::SwapResult;
using ::testing::HasSubstr;

class FfnRunnerTest : public ::testing::Test {
 protected:
  void Start(const FfnRunnerOptions& options = {}) {
    ASSERT_OK_AND_ASSIGN(runner_,
                         FfnRunner::Create(tiny_.spec, kernels::MakeCpuOps(&team_), options));
    peer_ = runner_->AddPeer();
  }
  void StartWithAll(const FfnRunnerOptions& options = {}) {
    Start(options);
    ASSERT_OK(runner_->AddShard(model::FfnShard::All(tiny_.spec), tiny_.weights));
  }

  static std::vector<float> RowsOf(const StepHeader& header) {
    return TinyFfnExperts::Rows(header.rows(), static_cast<uint32_t>(header.step_id));
  }
  void Send(uint64_t peer, const StepHeader& header) {
    runner_->HandleSwap(peer, header, RowsOf(header), recorder_.Keep(header.step_id));
  }
  absl::StatusOr<std::vector<float>> Await(const StepHeader& header) {
    absl::StatusOr<SwapResult> result = recorder_.Await(header.step_id);
    if (!result.ok()) return result.status();
    return result->rows;
  }
  absl::StatusOr<std::vector<float>> Swap(const StepHeader& header) {
    Send(peer_, header);
    return Await(header);
  }

  // Keeps the compute thread busy until the returned notification is notified.
  std::shared_ptr<absl::Notification> Block() {
    auto go = std::make_shared<absl::Notification>();
    auto busy = std::make_shared<absl::Notification>();
    const StepHeader header = TinyFfnExperts::Dispatch(++step_, 1, {{0}});
    runner_->HandleSwap(peer_, header, RowsOf(header), [go, busy](absl::StatusOr<SwapResult>) {
      busy->Notify();
      go->WaitForNotification();
    });
    EXPECT_TRUE(busy->WaitForNotificationWithTimeout(exchange::kTestPatience));
    return go;
  }

  TinyFfnExperts tiny_;
  ThreadTeam team_{1};
  exchange::SwapRecorder recorder_;
  std::unique_ptr<FfnRunner> runner_;
  uint64_t peer_ = 0;
  uint64_t step_ = 0;
};

TEST_F(FfnRunnerTest, AnswersByRowAndExpertOrCombined) {
  StartWithAll();
  EXPECT_EQ(runner_->hidden_size(), kTinyHidden);
  for (const bool combine : {false, true}) {
    const StepHeader header = TinyFfnExperts::RandomDispatch(++step_, 2, 9, 4, combine);
    ASSERT_OK_AND_ASSIGN(const auto rows, Swap(header));
    const std::vector<double> expected = tiny_.Reference(*header.ffn, RowsOf(header));
    ASSERT_EQ(rows.size(), expected.size());
    for (size_t i = 0; i < rows.size(); ++i) EXPECT_NEAR(rows[i], expected[i], 1e-4);
  }
}

TEST_F(FfnRunnerTest, WaitingSwapsOfALayerAreMergedAndEqualThoseAlone) {
  StartWithAll();
  std::vector<StepHeader> headers;
  std::vector<std::vector<float>> alone;
  for (int i = 0; i < 8; ++i) {
    StepHeader header = TinyFfnExperts::RandomDispatch(100 + i, 1 + i % 2, 5, i, i % 3 == 0);
    ASSERT_OK_AND_ASSIGN(auto rows, Swap(header));
    alone.push_back(std::move(rows));
    headers.push_back(std::move(header));
  }
  const auto go = Block();
  const FfnLoad before = runner_->Load();
  exchange::SwapRecorder together;
  for (const StepHeader& header : headers) {
    runner_->HandleSwap(runner_->AddPeer(), header, RowsOf(header), together.Keep(header.step_id));
  }
  EXPECT_EQ(runner_->Load().waiting_rows, 8 * 5);
  go->Notify();
  for (int i = 0; i < 8; ++i) {
    const absl::StatusOr<SwapResult> answer = together.Await(headers[i].step_id);
    ASSERT_OK(answer.status());
    EXPECT_EQ(answer->rows, alone[i]);
  }
  const FfnLoad after = runner_->Load();
  EXPECT_EQ(after.batches - before.batches, 2);
  EXPECT_EQ(after.swaps - before.swaps, 8);
  EXPECT_EQ(after.rows - before.rows, 40);
  EXPECT_EQ(after.waiting_rows, 0);
}

TEST_F(FfnRunnerTest, HoldsWhatItWasGivenAndNamesWhatItWasNot) {
  Start();
  const StepHeader early = TinyFfnExperts::Dispatch(++step_, 1, {{0}});
  EXPECT_THAT(Swap(early), StatusIs(absl::StatusCode::kNotFound, HasSubstr("it holds none")));
  model::FfnShard shard;
  shard.Add(1, 0);
  shard.Add(1, 4);
  ASSERT_OK(runner_->AddShard(shard, tiny_.weights));
  EXPECT_TRUE(runner_->Load().shard == shard);
  EXPECT_EQ(runner_->Load().weight_bytes, 2 * 3 * 16 * kTinyHidden * 4);
  EXPECT_OK(Swap(TinyFfnExperts::Dispatch(++step_, 1, {{0, 4}})).status());
  EXPECT_THAT(Swap(TinyFfnExperts::Dispatch(++step_, 1, {{0}, {3, 4}})),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("layer 1 FFN expert 3 is not")));
  EXPECT_THAT(Swap(TinyFfnExperts::Dispatch(++step_, 2, {{0}})),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("layer 2 FFN expert 0")));
  EXPECT_THAT(Swap(TinyFfnExperts::Dispatch(++step_, 1, {{1000}})),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("expert 1000")));
  // More of it, some of which is held already.
  shard.Add(2, 0);
  ASSERT_OK(runner_->AddShard(shard, tiny_.weights));
  EXPECT_TRUE(runner_->Load().shard == shard);
  EXPECT_EQ(runner_->Load().weight_bytes, 3 * 3 * 16 * kTinyHidden * 4);
  EXPECT_OK(Swap(TinyFfnExperts::Dispatch(++step_, 2, {{0}})).status());
}

TEST_F(FfnRunnerTest, AShardIsAddedWholeOrNotAtAll) {
  Start();
  model::FfnShard outside;
  outside.Add(1, 0);
  outside.Add(1, 6);
  EXPECT_THAT(runner_->AddShard(outside, tiny_.weights),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("6")));
  // Another checkpoint, whose second layer of experts is narrower than the config says.
  model::ModelSpec narrow = tiny_.spec;
  narrow.layers[2].ffn.moe.intermediate = 12;
  testing::TempFolder folder;
  ASSERT_OK(testing::WriteTinyWeights(narrow, folder.path(), 1));
  ASSERT_OK_AND_ASSIGN(auto weights, model::Weights::Open(folder.path()));
  EXPECT_THAT(runner_->AddShard(model::FfnShard::All(tiny_.spec), std::move(weights)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("model.layers.2.mlp.experts.0.gate_proj.weight")));
  EXPECT_TRUE(runner_->Load().shard.empty());
  EXPECT_EQ(runner_->Load().weight_bytes, 0);
}

TEST_F(FfnRunnerTest, ShardsMayBeAddedWhileSwapsRun) {
  Start();
  model::FfnShard first;
  first.Add(1, 2);
  ASSERT_OK(runner_->AddShard(first, tiny_.weights));
  ASSERT_OK_AND_ASSIGN(const auto expected, Swap(TinyFfnExperts::Dispatch(1000, 1, {{2}})));
  std::thread adder([this] {
    for (int32_t expert = 0; expert < 6; ++expert) {
      model::FfnShard shard;
      shard.Add(1, expert);
      shard.Add(2, expert);
      EXPECT_OK(runner_->AddShard(shard, tiny_.weights));
    }
  });
  for (int i = 0; i < 50; ++i) {
    const StepHeader header = TinyFfnExperts::Dispatch(2000 + i, 1, {{2}});
    runner_->HandleSwap(peer_, header, TinyFfnExperts::Rows(1, 1000), recorder_.Keep(2000 + i));
    ASSERT_OK_AND_ASSIGN(const auto rows, Await(header));
    EXPECT_EQ(rows, expected);
  }
  adder.join();
  EXPECT_TRUE(runner_->Load().shard == model::FfnShard::All(tiny_.spec));
}

TEST_F(FfnRunnerTest, RefusesWhatIsNoDispatchForThisModel) {
  StartWithAll();
  const StepHeader layer_expert =
      exchange::MakeHeader(++step_, {{1, 0, 1, exchange::ReturnRows::kAll}}, kTinyHidden);
  EXPECT_THAT(Swap(layer_expert), StatusIs(absl::StatusCode::kInvalidArgument,
                                           HasSubstr("expected a dispatch to FFN experts")));
  for (const int32_t layer : {0, 3, 1 << 30}) {
    EXPECT_THAT(Swap(TinyFfnExperts::Dispatch(++step_, layer, {{0}})),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr(absl::StrCat("layer ", layer, " of the model has no FFN"))));
  }
  StepHeader header = TinyFfnExperts::Dispatch(++step_, 1, {{0}});
  runner_->HandleSwap(peer_, header, std::vector<float>(3), recorder_.Keep(step_));
  EXPECT_THAT(Await(header), StatusIs(absl::StatusCode::kInvalidArgument,
                                      HasSubstr("expected 24 values, found 3")));
  header = TinyFfnExperts::Dispatch(++step_, 1, {{1, 0}});
  EXPECT_THAT(Swap(header), StatusIs(absl::StatusCode::kInvalidArgument));
  runner_->HandleRelease(peer_, 5);  // nothing is kept of a sequence
  FfnRunnerOptions none;
  none.max_batch_rows = 0;
  EXPECT_THAT(FfnRunner::Create(tiny_.spec, kernels::MakeCpuOps(&team_), none),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_batch_rows")));
}

TEST_F(FfnRunnerTest, TooManyWaitingSwapsAreRefusedAtOnce) {
  FfnRunnerOptions options;
  options.max_waiting_swaps = 2;
  StartWithAll(options);
  const auto go = Block();
  std::vector<StepHeader> headers;
  for (int i = 0; i < 3; ++i) {
    headers.push_back(TinyFfnExperts::Dispatch(++step_, 1, {{0}}));
    Send(peer_, headers.back());
  }
  EXPECT_THAT(Await(headers[2]), StatusIs(absl::StatusCode::kResourceExhausted));
  go->Notify();
  EXPECT_OK(Await(headers[0]).status());
  EXPECT_OK(Await(headers[1]).status());
}

TEST_F(FfnRunnerTest, APeerThatLeavesEndsItsSwapsAndNoOthers) {
  StartWithAll();
  const uint64_t leaving = runner_->AddPeer();
  const auto go = Block();
  const StepHeader waits = TinyFfnExperts::Dispatch(++step_, 1, {{0}});
  Send(leaving, waits);
  const StepHeader other = TinyFfnExperts::Dispatch(++step_, 1, {{0}});
  Send(peer_, other);
  runner_->RemovePeer(leaving);
  EXPECT_EQ(recorder_.calls(waits.step_id), 1);
  EXPECT_THAT(Await(waits), StatusIs(absl::StatusCode::kUnavailable));
  const StepHeader late = TinyFfnExperts::Dispatch(++step_, 1, {{0}});
  Send(leaving, late);
  EXPECT_THAT(Await(late), StatusIs(absl::StatusCode::kUnavailable));
  go->Notify();
  EXPECT_OK(Await(other).status());
  runner_->RemovePeer(leaving);  // again: nothing happens
  runner_->RemovePeer(peer_);
}

TEST_F(FfnRunnerTest, DestructionEndsWhatWaits) {
  StartWithAll();
  const auto go = Block();
  const StepHeader waits = TinyFfnExperts::Dispatch(++step_, 1, {{0}});
  Send(peer_, waits);
  std::thread destroyer([this] { runner_.reset(); });
  go->Notify();
  destroyer.join();
  EXPECT_EQ(recorder_.calls(waits.step_id), 1);
}

TEST_F(FfnRunnerTest, SeveralBackbonesOverLinksGetTheSameBitsAsOne) {
  StartWithAll();
  auto header = [](uint64_t step) {
    return TinyFfnExperts::RandomDispatch(step, 1 + step % 2, 1 + step % 7,
                                          static_cast<uint32_t>(step), step % 5 == 0);
  };
  constexpr uint64_t kSteps = 30;
  std::vector<std::vector<float>> expected;
  for (uint64_t step = 1; step <= kSteps; ++step) {
    ASSERT_OK_AND_ASSIGN(auto rows, Swap(header(step)));
    expected.push_back(std::move(rows));
  }
  std::vector<std::thread> backbones;
  for (int i = 0; i < 3; ++i) {
    backbones.emplace_back([&] {
      const auto link = exchange::MakeLocalLink(runner_.get());
      exchange::SwapRecorder recorder;
      for (uint64_t step = 1; step <= kSteps; ++step) {
        recorder.Send(*link, header(step), RowsOf(header(step)));
      }
      for (uint64_t step = 1; step <= kSteps; ++step) {
        const absl::StatusOr<SwapResult> answer = recorder.Await(step);
        ASSERT_OK(answer.status());
        EXPECT_EQ(answer->rows, expected[step - 1]);
      }
    });
  }
  for (std::thread& backbone : backbones) backbone.join();
}

}  // namespace
}  // namespace ccoe::experts
