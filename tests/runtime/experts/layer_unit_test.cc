// SPDX-License-Identifier: Apache-2.0

#include "runtime/experts/layer_unit.h"

#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/exchange/row_block.h"
#include "runtime/exchange/swap_result.h"
#include "tests/runtime/experts/swaps.h"
#include "tests/runtime/experts/tiny_expert.h"
#include "tests/testing/device_rows.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::experts {
namespace {

using exchange::ReasonOf;
using exchange::ReturnRows;
using exchange::SwapReason;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t kHidden = 32;

std::vector<float> Joined(const std::vector<std::vector<float>>& parts) {
  std::vector<float> all;
  for (const std::vector<float>& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

class LayerUnitTest : public ::testing::Test {
 protected:
  void SetUp() override {
    MakeMemory(64);
    math_ = experts_.Make("math", 1);
    ASSERT_OK_AND_ASSIGN(decoder_, model::Decoder::Create(spec_, kTinyLayers, math_.weights));
    ASSERT_OK_AND_ASSIGN(storage_, model::KvStorage::Create(&kernels::CpuDevice(), spec_, kKv));
    std::iota(pages_.begin(), pages_.end(), 0);
  }

  void MakeMemory(int64_t max_rows) {
    ASSERT_OK_AND_ASSIGN(memory_,
                         PassMemory::Create(spec_, {max_rows, 0}, kernels::MakeCpuOps(&team_)));
  }

  // A swap of one fresh sequence with its rows, put at the end of `batch` over the next two pages.
  WaitingSwap Add(uint32_t seed, int64_t rows, ReturnRows back, model::RowBatch& batch,
                  bool capture = false) {
    exchange::SwapHeader header = LayerHeader(seed, {{seed, 0, rows, back}});
    std::get<exchange::LayerSwap>(header.work).capture_layers = capture;
    const size_t first_page = 2 * batch.sequences.size();
    batch.sequences.push_back(
        {batch.rows(), rows, 0, absl::MakeConstSpan(pages_).subspan(first_page, 2)});
    return Waiting(std::move(header), TinyRows(rows, seed));
  }

  absl::StatusOr<std::vector<exchange::SwapResult>> Run(const std::vector<WaitingSwap>& swaps,
                                                        const model::RowBatch& batch) {
    return RunLayerPass(*decoder_, *storage_, swaps, batch, *memory_);
  }

  std::unique_ptr<LayerUnit> MakeUnit() {
    auto unit = LayerUnit::Create(spec_, math_, kKv, &kernels::CpuDevice());
    CCOE_CHECK(unit.ok());
    return *std::move(unit);
  }

  static constexpr model::KvStorageOptions kKv = {kTinyLayers, 8, 4};
  const model::ModelSpec spec_ = TinySpec();
  TinyExperts experts_;
  Bundle math_;
  ThreadTeam team_{1};
  std::unique_ptr<PassMemory> memory_;
  std::unique_ptr<model::Decoder> decoder_;
  std::unique_ptr<model::KvStorage> storage_;
  std::vector<int32_t> pages_ = std::vector<int32_t>(8);
};

TEST_F(LayerUnitTest, GivesEachSwapItsOwnRowsAndOnlyThoseAskedFor) {
  std::vector<std::vector<float>> alone;
  for (const uint32_t seed : {1, 2, 3}) {
    model::RowBatch batch;
    std::vector<WaitingSwap> swaps;
    swaps.push_back(Add(seed, 5, ReturnRows::kAll, batch));
    ASSERT_OK_AND_ASSIGN(auto results, Run(swaps, batch));
    EXPECT_EQ(results[0].rows.size(), 5 * kHidden);
    EXPECT_THAT(results[0].captured, IsEmpty());
    EXPECT_THAT(results[0].verdicts, IsEmpty());
    alone.push_back(results[0].rows);
  }
  model::RowBatch batch;
  std::vector<WaitingSwap> swaps;
  swaps.push_back(Add(1, 5, ReturnRows::kLast, batch));
  swaps.push_back(Add(2, 5, ReturnRows::kNone, batch));
  swaps.push_back(Add(3, 5, ReturnRows::kAll, batch));
  ASSERT_OK_AND_ASSIGN(const auto results, Run(swaps, batch));
  EXPECT_EQ(results[0].rows, std::vector<float>(alone[0].end() - kHidden, alone[0].end()));
  EXPECT_THAT(results[1].rows, IsEmpty());
  EXPECT_EQ(results[2].rows, alone[2]);
}

TEST_F(LayerUnitTest, RowsOfItsDeviceComeAndGoInTheWiresDType) {
  ASSERT_OK_AND_ASSIGN(const auto memory,
                       exchange::RowMemory::Create(&kernels::CpuDevice(), 1 << 20));
  for (const kernels::DType wire : {kernels::DType::kF32, kernels::DType::kBF16}) {
    model::RowBatch host_batch, batch;
    std::vector<WaitingSwap> host, swaps;
    for (const auto& [seed, back] : {std::pair(1u, ReturnRows::kAll), {2u, ReturnRows::kLast}}) {
      host.push_back(Add(seed, 5, back, host_batch));
      swaps.push_back(Add(seed, 5, back, batch));
      std::vector<float> sent = TinyRows(5, seed);
      exchange::RoundToWire(wire, absl::MakeSpan(sent));
      host.back().swap.rows.block = sent;
      swaps.back().swap.header.format.dtype = wire;
      swaps.back().swap.rows.block =
          testing::ToDevice(*memory, kernels::F32Matrix(sent.data(), 5, kHidden), wire);
    }
    swaps.push_back(Add(3, 1, ReturnRows::kNone, batch));  // of host memory, beside them
    ASSERT_OK_AND_ASSIGN(const auto expected, Run(host, host_batch));
    ASSERT_OK_AND_ASSIGN(const auto results, Run(swaps, batch));
    for (size_t i = 0; i < expected.size(); ++i) {
      std::vector<float> rows = expected[i].rows;
      exchange::RoundToWire(wire, absl::MakeSpan(rows));
      EXPECT_THAT(results[i].rows, IsEmpty());
      EXPECT_EQ(results[i].device_rows.dtype(), wire);
      EXPECT_EQ(testing::HostValues(results[i].device_rows), rows);
    }
    EXPECT_FALSE(results[2].device_rows.on_device());
  }
}

TEST_F(LayerUnitTest, WithoutRoomOnTheDeviceTheAnswerIsOfHostMemory) {
  ASSERT_OK_AND_ASSIGN(const auto memory, exchange::RowMemory::Create(&kernels::CpuDevice(), 512));
  const std::vector<float> sent = TinyRows(3, 1);
  model::RowBatch host_batch, batch;
  std::vector<WaitingSwap> host, swaps;
  host.push_back(Add(1, 3, ReturnRows::kAll, host_batch));
  swaps.push_back(Add(1, 3, ReturnRows::kAll, batch));
  swaps[0].swap.rows.block =
      testing::ToDevice(*memory, kernels::F32Matrix(sent.data(), 3, kHidden), kernels::DType::kF32);
  ASSERT_OK_AND_ASSIGN(const auto expected, Run(host, host_batch));
  ASSERT_OK_AND_ASSIGN(const auto results, Run(swaps, batch));
  EXPECT_FALSE(results[0].device_rows.on_device());
  EXPECT_EQ(results[0].rows, expected[0].rows);
}

TEST_F(LayerUnitTest, CapturesEveryLayersOutput) {
  model::RowBatch batch;
  std::vector<WaitingSwap> swaps;
  swaps.push_back(Add(1, 3, ReturnRows::kAll, batch, /*capture=*/true));
  ASSERT_OK_AND_ASSIGN(const auto results, Run(swaps, batch));
  const std::vector<float>& captured = results[0].captured;
  ASSERT_EQ(captured.size(), 2 * 3 * kHidden);
  const auto second = captured.begin() + 3 * kHidden;
  EXPECT_EQ(std::vector<float>(second, captured.end()), results[0].rows);
  EXPECT_NE(std::vector<float>(captured.begin(), second), results[0].rows);
}

TEST_F(LayerUnitTest, PiecesOfAnySizeGiveTheSameBits) {
  const auto run = [this](bool capture) {
    model::RowBatch batch;
    std::vector<WaitingSwap> swaps;
    swaps.push_back(Add(1, 8, ReturnRows::kAll, batch, capture));
    if (!capture) {
      swaps.push_back(Add(2, 7, ReturnRows::kLast, batch));
      swaps.push_back(Add(3, 5, ReturnRows::kNone, batch));
      swaps.push_back(Add(4, 6, ReturnRows::kAll, batch));
    }
    auto results = Run(swaps, batch);
    std::vector<std::vector<float>> values;
    EXPECT_OK(results.status());
    if (!results.ok()) return values;
    for (exchange::SwapResult& result : *results) {
      values.push_back(std::move(result.rows));
      values.push_back(std::move(result.captured));
    }
    return values;
  };
  for (const bool capture : {false, true}) {
    MakeMemory(64);
    const std::vector<std::vector<float>> whole = run(capture);
    for (const int64_t max_rows : {1, 3, 7, 25}) {
      MakeMemory(max_rows);
      EXPECT_EQ(run(capture), whole) << max_rows;
    }
  }
}

TEST_F(LayerUnitTest, TheDecodersErrorIsTheAnswer) {
  model::RowBatch batch;
  std::vector<WaitingSwap> swaps;
  swaps.push_back(Add(1, 3, ReturnRows::kAll, batch));
  batch.sequences[0].block_table = {};
  EXPECT_THAT(Run(swaps, batch), testing::StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(LayerUnitTest, SequencesWithoutRoomAreLeftOutAloneAndTheOthersKeepTheirBits) {
  const auto run = [this](LayerUnit& unit, std::vector<WaitingSwap>& swaps,
                          std::vector<WaitingSwap>& refused) {
    const model::RowBatch batch = unit.Admit(absl::UnixEpoch(), swaps, refused);
    auto results = unit.Run(swaps, batch, *memory_);
    CCOE_CHECK(results.ok());
    unit.Settle(swaps, true);
    return *std::move(results);
  };
  const std::vector<float> first = TinyRows(5, 1), last = TinyRows(6, 3);
  std::vector<WaitingSwap> swaps, refused;
  swaps.push_back(
      Waiting(LayerHeader(1, {{1, 0, 5, ReturnRows::kAll}, {3, 0, 6, ReturnRows::kAll}}),
              Joined({first, last})));
  const auto unit = MakeUnit();
  const std::vector<float> alone = run(*unit, swaps, refused)[0].rows;

  // Now with a sequence between them that finds no KV, one that is too long, and one without pages.
  const auto other = MakeUnit();
  swaps.clear();
  exchange::SwapHeader mixed = LayerHeader(2, {{1, 0, 5, ReturnRows::kAll},
                                               {2, 4, 2, ReturnRows::kAll},
                                               {5, 0, 33, ReturnRows::kAll},
                                               {3, 0, 6, ReturnRows::kAll},
                                               {4, 0, 20, ReturnRows::kLast}});
  std::get<exchange::LayerSwap>(mixed.work).capture_layers = true;
  swaps.push_back(Waiting(std::move(mixed),
                          Joined({first, TinyRows(2, 2), TinyRows(33, 5), last, TinyRows(20, 4)})));
  swaps.push_back(Waiting(LayerHeader(3, {{7, 1, 1, ReturnRows::kAll}}), TinyRows(1, 7)));
  const auto results = run(*other, swaps, refused);
  ASSERT_THAT(results, SizeIs(1));
  EXPECT_EQ(results[0].rows, alone);
  std::vector<SwapReason> reasons;
  for (const absl::Status& each : results[0].verdicts) reasons.push_back(ReasonOf(each));
  EXPECT_THAT(reasons, ElementsAre(SwapReason::kNone, SwapReason::kKvLost, SwapReason::kTooLong,
                                   SwapReason::kNone, SwapReason::kNoPages));
  EXPECT_OK(exchange::CheckResult(swaps[0].header(), results[0]));
  // Captured rows lie where the swap's rows do.
  const float* const captured = results[0].captured.data() + (66 + 40) * kHidden;
  EXPECT_EQ(std::vector<float>(captured, captured + 6 * kHidden),
            std::vector<float>(alone.begin() + 5 * kHidden, alone.end()));
  ASSERT_THAT(refused, SizeIs(1));
  EXPECT_EQ(refused[0].header().id, 3);
  EXPECT_EQ(ReasonOf(refused[0].verdicts[0]), SwapReason::kKvLost);
  EXPECT_THAT(std::string(refused[0].verdicts[0].message()),
              ::testing::HasSubstr("expert math@1: KV of sequence 7"));
  // What was left out holds nothing; load tells what was computed.
  const ExpertLoad load = other->Load();
  EXPECT_EQ(load.kv_tokens_used, 16);
  EXPECT_EQ(load.kv_tokens_total, 32);
  EXPECT_EQ(load.rows, 11);
  EXPECT_EQ(load.swaps, 1);
  EXPECT_EQ(load.batches, 1);
}

TEST_F(LayerUnitTest, RowsThatWereNotComputedAreNotHeld) {
  const auto unit = MakeUnit();
  std::vector<WaitingSwap> swaps, refused;
  swaps.push_back(Waiting(LayerHeader(1, {{1, 0, 5}}), TinyRows(5, 1)));
  unit->Admit(absl::UnixEpoch(), swaps, refused);
  unit->Settle(swaps, false);
  EXPECT_EQ(unit->Load().kv_tokens_used, 0);
}

TEST_F(LayerUnitTest, RefusesABundleThatIsNotWhole) {
  math_.manifest.expert = {"wrong", 1};
  math_.manifest.layers = {0, 3};
  EXPECT_THAT(
      LayerUnit::Create(spec_, math_, kKv, &kernels::CpuDevice()).status(),
      testing::StatusIs(absl::StatusCode::kNotFound, ::testing::HasSubstr("expert wrong@1")));
}

// `pages` of four tokens.
class UnitKvTest : public ::testing::Test {
 protected:
  void Start(int64_t pages) { kv_ = std::make_unique<UnitKv>(pages, 4, /*max_positions=*/64); }

  absl::Status Admit(uint64_t peer, uint64_t sequence, int64_t first, int64_t count) {
    return kv_->Admit(peer, {sequence, first, count}, now_);
  }
  SwapReason Reason(uint64_t peer, uint64_t sequence, int64_t first, int64_t count) {
    return ReasonOf(Admit(peer, sequence, first, count));
  }
  // Holds rows [first, first + count).
  absl::Status Hold(uint64_t peer, uint64_t sequence, int64_t first, int64_t count) {
    absl::Status admitted = Admit(peer, sequence, first, count);
    if (admitted.ok()) kv_->Commit(peer, {sequence, first, count});
    return admitted;
  }

  absl::Time now_ = absl::UnixEpoch() + absl::Hours(1);
  std::unique_ptr<UnitKv> kv_;
};

TEST_F(UnitKvTest, HoldsWhatWasCommitted) {
  Start(8);
  ASSERT_OK(Admit(1, 1, 0, 5));
  EXPECT_THAT(kv_->Table(1, 1), SizeIs(2));
  kv_->Commit(1, {1, 0, 5});
  EXPECT_OK(Hold(1, 1, 5, 1));
  EXPECT_EQ(kv_->used_tokens(), 8);
  EXPECT_EQ(kv_->total_tokens(), 32);
}

TEST_F(UnitKvTest, AGapMeansRecomputeFromZero) {
  Start(8);
  const absl::Status lost = Admit(1, 7, 9, 1);
  EXPECT_EQ(ReasonOf(lost), SwapReason::kKvLost);
  EXPECT_THAT(std::string(lost.message()),
              HasSubstr("KV of sequence 7: expected 9 tokens before the swap's rows, found 0"));
}

TEST_F(UnitKvTest, AnEarlierStartDropsWhatFollows) {
  Start(8);
  ASSERT_OK(Hold(1, 1, 0, 12));
  ASSERT_OK(Admit(1, 1, 3, 2));
  EXPECT_THAT(kv_->Table(1, 1), SizeIs(2));
  kv_->Commit(1, {1, 3, 2});
  EXPECT_EQ(kv_->used_tokens(), 8);
  EXPECT_EQ(Reason(1, 1, 6, 1), SwapReason::kKvLost);
}

TEST_F(UnitKvTest, ASequenceThatCanNeverFitIsTooLong) {
  Start(4);
  const absl::Status too_long = Admit(1, 1, 0, 17);
  EXPECT_EQ(ReasonOf(too_long), SwapReason::kTooLong);
  EXPECT_THAT(std::string(too_long.message()),
              HasSubstr("grows to 17 tokens; the expert's whole KV cache holds 16"));
  Start(100);
  const absl::Status beyond = Admit(1, 1, 0, 65);
  EXPECT_EQ(ReasonOf(beyond), SwapReason::kTooLong);
  EXPECT_THAT(std::string(beyond.message()), HasSubstr("at most 64 positions"));
}

TEST_F(UnitKvTest, WithoutPagesNothingChanges) {
  Start(4);
  ASSERT_OK(Hold(1, 1, 0, 8));
  const absl::Status full = Admit(1, 2, 0, 9);
  EXPECT_EQ(ReasonOf(full), SwapReason::kNoPages);
  EXPECT_THAT(std::string(full.message()),
              HasSubstr("sequence 2 needs 3 more of 4 tokens, 2 of 4 are free"));
  EXPECT_EQ(kv_->used_tokens(), 8);
  EXPECT_OK(Hold(1, 1, 8, 8));
}

TEST_F(UnitKvTest, AbandonGivesTheRoomBackAndKeepsWhatWasThere) {
  Start(8);
  ASSERT_OK(Hold(1, 1, 0, 4));
  ASSERT_OK(Admit(1, 1, 4, 10));
  ASSERT_OK(Admit(1, 2, 0, 3));
  kv_->Abandon(1, {1, 4, 10});
  kv_->Abandon(1, {2, 0, 3});
  EXPECT_EQ(kv_->used_tokens(), 4);
  EXPECT_OK(Hold(1, 1, 4, 1));
}

TEST_F(UnitKvTest, PeersAndSequencesAreApart) {
  Start(8);
  for (const uint64_t peer : {1, 2}) {
    for (const uint64_t sequence : {5, 6}) ASSERT_OK(Hold(peer, sequence, 0, 4));
  }
  EXPECT_EQ(kv_->used_tokens(), 16);
  kv_->Release(1, 5);
  kv_->Release(1, 5);
  kv_->Release(3, 5);
  EXPECT_EQ(kv_->used_tokens(), 12);
  kv_->ReleasePeer(2);
  EXPECT_EQ(kv_->used_tokens(), 4);
  EXPECT_OK(Hold(1, 6, 4, 1));
}

TEST_F(UnitKvTest, AReleaseDuringAPassTakesEffectAfterIt) {
  Start(8);
  ASSERT_OK(Admit(1, 1, 0, 5));
  ASSERT_OK(Admit(1, 2, 0, 5));
  kv_->Release(1, 1);
  kv_->Release(1, 2);
  EXPECT_EQ(kv_->used_tokens(), 16);
  EXPECT_THAT(kv_->Table(1, 1), SizeIs(2));
  kv_->Commit(1, {1, 0, 5});
  kv_->Abandon(1, {2, 0, 5});
  EXPECT_EQ(kv_->used_tokens(), 0);
  EXPECT_EQ(Reason(1, 1, 5, 1), SwapReason::kKvLost);
}

TEST_F(UnitKvTest, APeerMayTakeAllPagesWhileNobodyElseWaits) {
  Start(8);
  ASSERT_OK(Hold(2, 1, 0, 4));
  EXPECT_OK(Hold(1, 1, 0, 28));
}

TEST_F(UnitKvTest, FreedPagesGoToThePeerBelowItsShareThatWaits) {
  Start(8);
  for (uint64_t sequence = 1; sequence <= 4; ++sequence) ASSERT_OK(Hold(1, sequence, 0, 8));
  EXPECT_EQ(Reason(2, 1, 0, 16), SwapReason::kNoPages);  // its share: 4 of 8 pages
  kv_->Release(1, 4);
  // Too few for the one that waits, and not for the one that has more than its share.
  const absl::Status kept = Admit(1, 3, 8, 1);
  EXPECT_EQ(ReasonOf(kept), SwapReason::kNoPages);
  EXPECT_THAT(std::string(kept.message()),
              HasSubstr("2 of 8 are free and kept for peers below their share of 4"));
  EXPECT_OK(Hold(1, 3, 7, 1));  // what needs no page goes on
  EXPECT_EQ(kv_->used_tokens(), 24);
  kv_->Release(1, 3);
  EXPECT_OK(Hold(2, 1, 0, 16));
  EXPECT_EQ(kv_->used_tokens(), 32);
  // It waits no more.
  kv_->Release(2, 1);
  EXPECT_OK(Hold(1, 2, 8, 8));
}

TEST_F(UnitKvTest, APeerWithItsShareWaitsLikeOthers) {
  Start(8);
  ASSERT_OK(Hold(1, 1, 0, 12));
  ASSERT_OK(Hold(2, 1, 0, 16));
  EXPECT_EQ(Reason(2, 2, 0, 8), SwapReason::kNoPages);  // would be over its share: no claim
  EXPECT_OK(Hold(1, 2, 0, 4));
}

TEST_F(UnitKvTest, PagesAreKeptForAPeerWhoseRefusedSequenceComesBackAsAnother) {
  Start(8);
  for (uint64_t sequence = 1; sequence <= 4; ++sequence) ASSERT_OK(Hold(1, sequence, 0, 8));
  for (uint64_t sequence = 1; sequence <= 3; ++sequence) {
    EXPECT_EQ(Reason(2, sequence, 0, 8), SwapReason::kNoPages);
    kv_->Release(2, sequence);  // as who is refused does
    now_ += UnitKv::kClaim / 2;
  }
  kv_->Release(1, 4);
  EXPECT_EQ(Reason(1, 5, 0, 4), SwapReason::kNoPages);
  EXPECT_OK(Hold(2, 4, 0, 8));
}

TEST_F(UnitKvTest, PagesAreNotKeptForWhoGivesUp) {
  for (int how = 1; how < 3; ++how) {
    Start(4);
    ASSERT_OK(Hold(1, 1, 0, 12));
    EXPECT_EQ(Reason(2, 9, 0, 8), SwapReason::kNoPages);
    EXPECT_EQ(Reason(1, 1, 12, 1), SwapReason::kNoPages);
    if (how == 1) kv_->ReleasePeer(2);
    if (how == 2) now_ += UnitKv::kClaim;
    EXPECT_OK(Hold(1, 1, 12, 1)) << how;
  }
}

}  // namespace
}  // namespace ccoe::experts
