// SPDX-License-Identifier: Apache-2.0
// FFN experts at a host, both kinds at one, and a device that fails.
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/experts/unit_host.h"
#include "tests/runtime/experts/host_fixture.h"
#include "tests/runtime/experts/tiny_ffn_experts.h"
#include "tests/testing/tagged_device.h"

namespace ccoe::experts {
namespace {

using ::ccoe::testing::StatusIs;
using exchange::ReasonOf;
using exchange::ReturnRows;
using exchange::SwapHeader;
using exchange::SwapReason;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class UnitHostFfnTest : public HostTest {
 protected:
  void Start(const UnitHostOptions& options = {}) { StartHost(tiny_.spec, options); }
  void StartWithAll(const UnitHostOptions& options = {}) {
    Start(options);
    ASSERT_OK(host_->AddShard(model::FfnShard::All(tiny_.spec), tiny_.weights));
  }
  // Over a device whose memory the host cannot read, with FFN experts and a layer expert.
  void StartOnDevice(UnitHostOptions options = {}) {
    model::WeightTarget target;
    target.device = &device_;
    const auto weights = model::Weights::On(tiny_.weights, target);
    options.kv_tokens = 64;
    StartHost(tiny_.spec, options, testing::MakeTaggedOps(&device_, &team_));
    ASSERT_OK(host_->AddShard(model::FfnShard::All(tiny_.spec), weights));
    Bundle bundle;
    bundle.manifest.expert = {"math", 1};
    bundle.manifest.layers = {1, 3};
    bundle.weights = weights;
    ASSERT_OK(host_->AddExpert(bundle));
  }

  static std::vector<float> RowsOf(const SwapHeader& header) {
    return TinyFfnExperts::Rows(header.rows(), static_cast<uint32_t>(header.id));
  }
  uint64_t Send(uint64_t peer, const SwapHeader& header) {
    HostTest::Send(peer, header, RowsOf(header));
    return header.id;
  }
  absl::StatusOr<std::vector<float>> Swap(const SwapHeader& header) {
    return Rows(Send(peer_, header));
  }
  SwapHeader One() { return TinyFfnExperts::Header(++last_id_, 1, {{0}}); }
  SwapHeader Layers(uint64_t sequence, int64_t rows) {
    return LayerHeader(++last_id_, {{sequence, 0, rows, ReturnRows::kAll}}, "math", {1, 3},
                       kTinyHidden);
  }
  std::shared_ptr<absl::Notification> Block() {
    const SwapHeader header = One();
    return HostTest::Block(header, RowsOf(header));
  }

  // The device's next copy notifies `computing` and waits for `finish`.
  void HoldNextCopy(absl::Notification& computing, absl::Notification& finish) {
    device_.SetCopyHook([&] {
      if (!computing.HasBeenNotified()) {
        computing.Notify();
        finish.WaitForNotification();
      }
      return absl::OkStatus();
    });
  }

  TinyFfnExperts tiny_;
  testing::TaggedDevice device_;
};

TEST_F(UnitHostFfnTest, AnswersByRowAndExpertOrCombined) {
  StartWithAll();
  EXPECT_EQ(host_->hidden_size(), kTinyHidden);
  for (const bool combine : {false, true}) {
    const SwapHeader header = TinyFfnExperts::RandomHeader(++last_id_, 2, 9, 4, combine);
    ASSERT_OK_AND_ASSIGN(const auto rows, Swap(header));
    const std::vector<double> expected = tiny_.Reference(*header.ffn(), RowsOf(header));
    ASSERT_EQ(rows.size(), expected.size());
    for (size_t i = 0; i < rows.size(); ++i) EXPECT_NEAR(rows[i], expected[i], 1e-4);
  }
}

TEST_F(UnitHostFfnTest, WaitingSwapsOfALayerAreMergedAndEqualThoseAlone) {
  StartWithAll();
  std::vector<SwapHeader> headers;
  std::vector<std::vector<float>> alone;
  for (int i = 0; i < 8; ++i) {
    SwapHeader header = TinyFfnExperts::RandomHeader(100 + i, 1 + i % 2, 5, i, i % 3 == 0);
    ASSERT_OK_AND_ASSIGN(auto rows, Swap(header));
    alone.push_back(std::move(rows));
    headers.push_back(std::move(header));
  }
  // From peers of their own, and then all from one: no order holds them up.
  for (const bool one_peer : {false, true}) {
    const auto go = Block();
    const FfnLoad before = host_->Load().ffn;
    AnswerBook together;
    for (const SwapHeader& header : headers) {
      host_->HandleEnvelope(one_peer ? peer_ : host_->AddPeer(), EnvelopeOf(header, RowsOf(header)),
                            together.Keep());
    }
    EXPECT_EQ(host_->Load().ffn.waiting_rows, 8 * 5);
    go->Notify();
    for (int i = 0; i < 8; ++i) {
      const auto answer = together.Await(headers[i].id);
      ASSERT_OK(answer.status());
      EXPECT_EQ(answer->rows, alone[i]);
    }
    const FfnLoad after = host_->Load().ffn;
    EXPECT_EQ(after.batches - before.batches, 2);
    EXPECT_EQ(after.swaps - before.swaps, 8);
    EXPECT_EQ(after.rows - before.rows, 40);
    EXPECT_EQ(after.waiting_rows, 0);
  }
}

TEST_F(UnitHostFfnTest, HoldsWhatItWasGivenAndNamesWhatItWasNot) {
  Start();
  EXPECT_THAT(std::string(Swap(One()).status().message()), HasSubstr("it holds none"));
  model::FfnShard shard;
  shard.Add(1, 0);
  shard.Add(1, 4);
  ASSERT_OK(host_->AddShard(shard, tiny_.weights));
  EXPECT_TRUE(host_->Load().ffn.shard == shard);
  EXPECT_OK(Swap(TinyFfnExperts::Header(++last_id_, 1, {{0, 4}})).status());
  const auto missing = Swap(TinyFfnExperts::Header(++last_id_, 1, {{0}, {3, 4}}));
  EXPECT_EQ(ReasonOf(missing.status()), SwapReason::kUnknownExpert);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("layer 1 FFN expert 3 is not"));
  // More of it, some of which is held already.
  shard.Add(2, 0);
  ASSERT_OK(host_->AddShard(shard, tiny_.weights));
  EXPECT_EQ(host_->Load().ffn.weight_bytes, 3 * 3 * 16 * kTinyHidden * 4);
  EXPECT_OK(Swap(TinyFfnExperts::Header(++last_id_, 2, {{0}})).status());
}

TEST_F(UnitHostFfnTest, ShardsMayBeAddedWhileSwapsRun) {
  Start();
  model::FfnShard first;
  first.Add(1, 2);
  ASSERT_OK(host_->AddShard(first, tiny_.weights));
  ASSERT_OK_AND_ASSIGN(const auto expected, Swap(TinyFfnExperts::Header(1000, 1, {{2}})));
  std::thread adder([this] {
    for (int32_t expert = 0; expert < 6; ++expert) {
      model::FfnShard shard;
      shard.Add(1, expert);
      shard.Add(2, expert);
      EXPECT_OK(host_->AddShard(shard, tiny_.weights));
    }
  });
  for (int i = 0; i < 50; ++i) {
    const SwapHeader header = TinyFfnExperts::Header(2000 + i, 1, {{2}});
    HostTest::Send(peer_, header, TinyFfnExperts::Rows(1, 1000));
    ASSERT_OK_AND_ASSIGN(const auto rows, Rows(header.id));
    EXPECT_EQ(rows, expected);
  }
  adder.join();
  EXPECT_TRUE(host_->Load().ffn.shard == model::FfnShard::All(tiny_.spec));
}

TEST_F(UnitHostFfnTest, SeveralBackbonesAtOnceGetTheSameBitsAsOne) {
  StartWithAll();
  const auto header = [](uint64_t id) {
    return TinyFfnExperts::RandomHeader(id, 1 + id % 2, 1 + id % 7, static_cast<uint32_t>(id),
                                        id % 5 == 0);
  };
  constexpr uint64_t kSwaps = 30;
  std::vector<std::vector<float>> expected;
  for (uint64_t id = 1; id <= kSwaps; ++id) {
    ASSERT_OK_AND_ASSIGN(auto rows, Swap(header(id)));
    expected.push_back(std::move(rows));
  }
  std::vector<std::thread> backbones;
  for (int i = 0; i < 3; ++i) {
    backbones.emplace_back([&] {
      const uint64_t peer = host_->AddPeer();
      AnswerBook answers;
      for (uint64_t id = 1; id <= kSwaps; ++id) {
        host_->HandleEnvelope(peer, EnvelopeOf(header(id), RowsOf(header(id))), answers.Keep());
      }
      for (uint64_t id = 1; id <= kSwaps; ++id) {
        const auto answer = answers.Await(id);
        ASSERT_OK(answer.status());
        EXPECT_EQ(answer->rows, expected[id - 1]);
      }
      host_->RemovePeer(peer);
    });
  }
  for (std::thread& backbone : backbones) backbone.join();
}

TEST_F(UnitHostFfnTest, BothKindsShareAHostAndGiveTheBitsOfHostsOfTheirOwn) {
  StartOnDevice();
  const SwapHeader layers = Layers(1, 5), ffn = TinyFfnExperts::RandomHeader(++last_id_, 2, 9, 4);
  UnitHostOptions only;
  only.ffn_experts = false;
  only.kv_tokens = 64;
  ASSERT_OK_AND_ASSIGN(auto alone, UnitHost::Create(tiny_.spec, kernels::MakeCpuOps(&team_), only));
  Bundle bundle;
  bundle.manifest.expert = {"math", 1};
  bundle.manifest.layers = {1, 3};
  bundle.weights = tiny_.weights;
  ASSERT_OK(alone->AddExpert(bundle));
  EXPECT_THAT(alone->AddShard(model::FfnShard::All(tiny_.spec), tiny_.weights),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  AnswerBook answers;
  alone->HandleEnvelope(alone->AddPeer(), EnvelopeOf(layers, RowsOf(layers)), answers.Keep());
  ASSERT_OK_AND_ASSIGN(const auto expected, answers.Await(layers.id));
  // In one pass after another, the other kind's between.
  ASSERT_OK(Swap(ffn).status());
  ASSERT_OK_AND_ASSIGN(const auto rows, Swap(layers));
  EXPECT_EQ(rows, expected.rows);
  const std::vector<double> reference = tiny_.Reference(*ffn.ffn(), RowsOf(ffn));
  ASSERT_OK_AND_ASSIGN(const auto ffn_rows, Rows(ffn.id));
  for (size_t i = 0; i < ffn_rows.size(); ++i) EXPECT_NEAR(ffn_rows[i], reference[i], 1e-4);
  EXPECT_EQ(host_->Progress().passes, 2);
}

TEST_F(UnitHostFfnTest, OneSwapOfAnEnvelopeThatMakesNoSenseIsAnsweredAlone) {
  StartOnDevice();
  SwapHeader unknown = Layers(2, 1), other_layers = Layers(3, 1);
  std::get<exchange::LayerSwap>(unknown.work).expert.name = "law";
  std::get<exchange::LayerSwap>(other_layers.work).layers = {0, 3};
  exchange::Envelope envelope;
  for (const SwapHeader& header : {unknown, other_layers, Layers(1, 2), One(),
                                   TinyFfnExperts::Header(++last_id_, 0, {{0}}), Layers(4, 2)}) {
    envelope.swaps.push_back({header, {RowsOf(header), {}}});
  }
  host_->HandleEnvelope(peer_, std::move(envelope), answers_.Keep());
  const std::vector<SwapReason> expected = {SwapReason::kUnknownExpert, SwapReason::kInvalid,
                                            SwapReason::kNone,          SwapReason::kNone,
                                            SwapReason::kInvalid,       SwapReason::kNone};
  for (uint64_t id = 1; id <= expected.size(); ++id) {
    EXPECT_EQ(Reason(id), expected[id - 1]) << id;
    EXPECT_EQ(answers_.calls(id), 1);
  }
}

TEST_F(UnitHostFfnTest, AHostForOneKindRefusesTheOther) {
  UnitHostOptions only;
  only.layer_experts = false;
  StartWithAll(only);
  Bundle bundle;
  bundle.manifest.expert = {"math", 1};
  EXPECT_THAT(host_->AddExpert(bundle),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("math@1")));
  EXPECT_EQ(ReasonOf(Swap(Layers(1, 2)).status()), SwapReason::kUnknownExpert);
  EXPECT_OK(Swap(One()).status());
}

TEST_F(UnitHostFfnTest, ADeviceThatFailsEndsEverythingAndSaysSo) {
  StartOnDevice();
  EXPECT_OK(host_->Health());
  const auto go = Block();
  const uint64_t first = Send(peer_, Layers(1, 3)), waiting = Send(peer_, One());
  device_.SetCopyHook([] { return absl::InternalError("tagged:0: a copy failed"); });
  go->Notify();
  for (const uint64_t id : {first, waiting}) {
    EXPECT_EQ(Reason(id), SwapReason::kDeviceFailed);
    EXPECT_THAT(std::string(Rows(id).status().message()),
                HasSubstr("tagged:0 failed: math@1: tagged:0: a copy failed"));
    EXPECT_EQ(answers_.calls(id), 1);
  }
  device_.SetCopyHook(nullptr);  // for good all the same
  EXPECT_EQ(ReasonOf(Swap(One()).status()), SwapReason::kDeviceFailed);
  EXPECT_EQ(ReasonOf(host_->Health()), SwapReason::kDeviceFailed);
  EXPECT_EQ(ReasonOf(host_->AddShard(model::FfnShard::All(tiny_.spec), tiny_.weights)),
            SwapReason::kDeviceFailed);
  EXPECT_THAT(host_->Progress().computing, IsEmpty());
  host_->HandleRelease(peer_, 1);
  host_->RemovePeer(peer_);
}

TEST_F(UnitHostFfnTest, ProgressTellsWhatIsComputedSinceWhenAndNeverWaits) {
  StartOnDevice();
  for (const bool layers : {true, false}) {
    absl::Notification computing, finish;
    HoldNextCopy(computing, finish);
    const uint64_t id = Send(peer_, layers ? Layers(1, 3) : One());
    ASSERT_TRUE(computing.WaitForNotificationWithTimeout(kTestPatience));
    clock_.Advance(absl::Seconds(3));
    const exchange::HostProgress progress = host_->Progress();
    EXPECT_EQ(progress.computing, layers ? "math@1" : "layer 1");
    EXPECT_EQ(progress.since, absl::Seconds(3));
    EXPECT_EQ(progress.passes, layers ? 0 : 1);
    // What is being computed is answered in full: a cancel comes too late, a release frees its KV.
    host_->HandleCancel(peer_, {id});
    if (layers) host_->HandleRelease(peer_, 1);
    finish.Notify();
    EXPECT_OK(Rows(id).status());
    ASSERT_OK_AND_ASSIGN(const auto result, answers_.Await(id));
    EXPECT_EQ(result.expert_time, absl::Seconds(3));
    EXPECT_EQ(host_->Progress().passes, layers ? 1 : 2);
    EXPECT_THAT(host_->Progress().computing, IsEmpty());
    EXPECT_EQ(host_->Load().experts[0].kv_tokens_used, 0);
    device_.SetCopyHook(nullptr);
  }
}

TEST_F(UnitHostFfnTest, AnExpertThatIsRemovedDuringItsPassIsGivenBackWithIt) {
  StartOnDevice();
  const int64_t with_expert = device_.taken_bytes();
  absl::Notification computing, finish;
  HoldNextCopy(computing, finish);
  const uint64_t id = Send(peer_, Layers(1, 3));
  ASSERT_TRUE(computing.WaitForNotificationWithTimeout(kTestPatience));
  ASSERT_OK(host_->RemoveExpert({"math", 1}));
  EXPECT_EQ(device_.taken_bytes(), with_expert);
  EXPECT_EQ(Reason(Send(peer_, Layers(1, 1))), SwapReason::kUnknownExpert);
  finish.Notify();
  EXPECT_OK(Rows(id).status());
  EXPECT_LT(device_.taken_bytes(), with_expert);
  device_.SetCopyHook(nullptr);
}

TEST_F(UnitHostFfnTest, RowsOfAnotherDeviceAreThatSwapsErrorAlone) {
  StartWithAll();
  ASSERT_OK_AND_ASSIGN(const auto memory, exchange::RowMemory::Create(&device_, 4096));
  ASSERT_OK_AND_ASSIGN(auto fresh, memory->Take(1, kTinyHidden, kernels::DType::kF32));
  const SwapHeader header = One();
  host_->HandleEnvelope(peer_, EnvelopeOf(header, fresh.block), answers_.Keep());
  EXPECT_EQ(Reason(header.id), SwapReason::kInvalid);
  EXPECT_THAT(std::string(Rows(header.id).status().message()), HasSubstr("found them in tagged:0"));
  EXPECT_OK(Swap(One()).status());
  EXPECT_OK(host_->Health());
}

TEST_F(UnitHostFfnTest, APeerThatLeavesEndsItsSwapsAndNoOthers) {
  StartWithAll();
  const uint64_t leaving = host_->AddPeer();
  const auto go = Block();
  const uint64_t waits = Send(leaving, One()), other = Send(peer_, One());
  host_->RemovePeer(leaving);
  EXPECT_EQ(answers_.calls(waits), 1);
  EXPECT_EQ(Reason(waits), SwapReason::kLinkBroken);
  EXPECT_EQ(Reason(Send(leaving, One())), SwapReason::kLinkBroken);
  go->Notify();
  EXPECT_OK(Rows(other).status());
  host_->RemovePeer(leaving);  // again: nothing happens
  host_->RemovePeer(peer_);
}

}  // namespace
}  // namespace ccoe::experts
