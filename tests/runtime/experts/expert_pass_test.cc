#include "runtime/experts/expert_pass.h"

#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/exchange/row_codec.h"
#include "runtime/exchange/row_memory.h"
#include "tests/runtime/experts/tiny_expert.h"
#include "tests/testing/device_rows.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::experts {
namespace {

using exchange::ReturnRows;
using ::testing::IsEmpty;

class ExpertPassTest : public ::testing::Test {
 protected:
  void SetUp() override {
    MakePass(64);
    ASSERT_OK_AND_ASSIGN(
        decoder_, model::Decoder::Create(spec_, kTinyLayers, experts_.Make("math", 1).weights));
    ASSERT_OK_AND_ASSIGN(
        storage_, model::KvStorage::Create(&kernels::CpuDevice(), spec_, {kTinyLayers, 8, 4}));
    std::iota(pages_.begin(), pages_.end(), 0);
  }

  void MakePass(int64_t max_rows) {
    ASSERT_OK_AND_ASSIGN(pass_, ExpertPass::Create(spec_, max_rows, kernels::MakeCpuOps(&team_)));
  }

  // A swap of one fresh sequence with its rows, put at the end of `batch` over the next two pages.
  WaitingSwap Add(uint32_t seed, int64_t rows, ReturnRows back, model::RowBatch& batch) {
    WaitingSwap swap;
    swap.header.layers = kTinyLayers;
    swap.header.hidden_size = 32;
    swap.header.sequences = {{seed, 0, rows, back}};
    swap.rows = TinyRows(rows, seed);
    const size_t first_page = 2 * batch.sequences.size();
    batch.sequences.push_back(
        {batch.rows(), rows, 0, absl::MakeConstSpan(pages_).subspan(first_page, 2)});
    return swap;
  }

  absl::StatusOr<std::vector<exchange::SwapResult>> Run(std::vector<WaitingSwap> swaps,
                                                        const model::RowBatch& batch) {
    return pass_->Run(*decoder_, *storage_, swaps, batch);
  }

  const model::ModelSpec spec_ = TinySpec();
  TinyExperts experts_;
  ThreadTeam team_{1};
  std::unique_ptr<ExpertPass> pass_;
  std::unique_ptr<model::Decoder> decoder_;
  std::unique_ptr<model::KvStorage> storage_;
  std::vector<int32_t> pages_ = std::vector<int32_t>(8);
};

TEST_F(ExpertPassTest, GivesEachSwapItsOwnRowsAndOnlyThoseAskedFor) {
  std::vector<std::vector<float>> alone;
  for (const uint32_t seed : {1, 2, 3}) {
    model::RowBatch batch;
    std::vector<WaitingSwap> swaps;
    swaps.push_back(Add(seed, 5, ReturnRows::kAll, batch));
    ASSERT_OK_AND_ASSIGN(auto results, Run(std::move(swaps), batch));
    EXPECT_EQ(results[0].rows.size(), 5 * 32);
    EXPECT_THAT(results[0].captured, IsEmpty());
    alone.push_back(results[0].rows);
  }
  model::RowBatch batch;
  std::vector<WaitingSwap> swaps;
  swaps.push_back(Add(1, 5, ReturnRows::kLast, batch));
  swaps.push_back(Add(2, 5, ReturnRows::kNone, batch));
  swaps.push_back(Add(3, 5, ReturnRows::kAll, batch));
  ASSERT_OK_AND_ASSIGN(const auto results, Run(std::move(swaps), batch));
  EXPECT_EQ(results[0].rows, std::vector<float>(alone[0].end() - 32, alone[0].end()));
  EXPECT_THAT(results[1].rows, IsEmpty());
  EXPECT_EQ(results[2].rows, alone[2]);
}

TEST_F(ExpertPassTest, RowsOfItsDeviceComeAndGoInTheWiresDType) {
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
      host.back().rows = sent;
      swaps.back().header.wire_dtype = wire;
      swaps.back().rows = testing::ToDevice(*memory, kernels::F32Matrix(sent.data(), 5, 32), wire);
    }
    swaps.push_back(Add(3, 1, ReturnRows::kNone, batch));  // of host memory, beside them
    ASSERT_OK_AND_ASSIGN(const auto expected, Run(std::move(host), host_batch));
    ASSERT_OK_AND_ASSIGN(const auto results, Run(std::move(swaps), batch));
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

TEST_F(ExpertPassTest, WithoutRoomOnTheDeviceTheAnswerIsOfHostMemory) {
  ASSERT_OK_AND_ASSIGN(const auto memory, exchange::RowMemory::Create(&kernels::CpuDevice(), 512));
  const std::vector<float> sent = TinyRows(1, 1);
  model::RowBatch host_batch, batch;
  std::vector<WaitingSwap> host, swaps;
  host.push_back(Add(1, 1, ReturnRows::kAll, host_batch));
  swaps.push_back(Add(1, 1, ReturnRows::kAll, batch));
  swaps[0].rows =
      testing::ToDevice(*memory, kernels::F32Matrix(sent.data(), 1, 32), kernels::DType::kF32);
  ASSERT_OK_AND_ASSIGN(const auto expected, Run(std::move(host), host_batch));
  ASSERT_OK_AND_ASSIGN(const auto results, Run(std::move(swaps), batch));
  EXPECT_FALSE(results[0].device_rows.on_device());
  EXPECT_EQ(results[0].rows, expected[0].rows);
}

TEST_F(ExpertPassTest, CapturesEveryLayersOutput) {
  model::RowBatch batch;
  std::vector<WaitingSwap> swaps;
  swaps.push_back(Add(1, 3, ReturnRows::kAll, batch));
  swaps[0].header.capture_layers = true;
  ASSERT_OK_AND_ASSIGN(const auto results, Run(std::move(swaps), batch));
  ASSERT_EQ(results[0].captured.size(), 2 * 3 * 32);
  EXPECT_EQ(std::vector<float>(results[0].captured.begin() + 3 * 32, results[0].captured.end()),
            results[0].rows);
  EXPECT_NE(std::vector<float>(results[0].captured.begin(), results[0].captured.begin() + 3 * 32),
            results[0].rows);
}

TEST_F(ExpertPassTest, PiecesOfAnySizeGiveTheSameBits) {
  const auto run = [this](bool capture) {
    model::RowBatch batch;
    std::vector<WaitingSwap> swaps;
    swaps.push_back(Add(1, 8, ReturnRows::kAll, batch));
    swaps[0].header.capture_layers = capture;
    if (!capture) {
      swaps.push_back(Add(2, 7, ReturnRows::kLast, batch));
      swaps.push_back(Add(3, 5, ReturnRows::kNone, batch));
      swaps.push_back(Add(4, 6, ReturnRows::kAll, batch));
    }
    auto results = Run(std::move(swaps), batch);
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
    MakePass(64);
    const std::vector<std::vector<float>> whole = run(capture);
    for (const int64_t max_rows : {1, 3, 7, 25}) {
      MakePass(max_rows);
      EXPECT_EQ(run(capture), whole) << max_rows;
    }
  }
}

TEST_F(ExpertPassTest, TheDecodersErrorIsTheAnswer) {
  model::RowBatch batch;
  std::vector<WaitingSwap> swaps;
  swaps.push_back(Add(1, 3, ReturnRows::kAll, batch));
  batch.sequences[0].block_table = {};
  EXPECT_THAT(Run(std::move(swaps), batch), testing::StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace ccoe::experts
