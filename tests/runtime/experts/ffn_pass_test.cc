// SPDX-License-Identifier: Apache-2.0
#include "runtime/experts/ffn_pass.h"

#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/exchange/row_block.h"
#include "tests/runtime/experts/swaps.h"
#include "tests/runtime/experts/tiny_ffn_experts.h"
#include "tests/testing/device_rows.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::experts {
namespace {

class FfnPassTest : public ::testing::Test {
 protected:
  FfnPassTest() {
    for (int32_t expert = 0; expert < 6; ++expert) {
      const auto bound = model::BindFfnExpert(tiny_.spec, 1, expert, *tiny_.weights);
      CCOE_CHECK(bound.ok());
      experts_.push_back(*bound);
    }
  }

  std::vector<exchange::SwapResult> Run(const std::vector<WaitingSwap>& swaps, int64_t max_pairs) {
    const auto memory = PassMemory::Create(tiny_.spec, {0, max_pairs}, kernels::MakeCpuOps(&team_));
    CCOE_CHECK(memory.ok());
    auto results = RunFfnPass(tiny_.spec.layers[1].ffn, experts_, swaps, **memory);
    CCOE_CHECK(results.ok());
    return *std::move(results);
  }
  std::vector<std::vector<float>> Run(const std::vector<exchange::SwapHeader>& headers,
                                      int64_t max_pairs) {
    std::vector<WaitingSwap> swaps;
    for (const exchange::SwapHeader& header : headers) {
      swaps.push_back(Waiting(header, RowsOf(header)));
    }
    std::vector<std::vector<float>> rows;
    for (exchange::SwapResult& result : Run(swaps, max_pairs)) {
      EXPECT_TRUE(result.captured.empty());
      rows.push_back(std::move(result.rows));
    }
    return rows;
  }

  static std::vector<float> RowsOf(const exchange::SwapHeader& header) {
    return TinyFfnExperts::Rows(header.rows(), static_cast<uint32_t>(header.id));
  }

  TinyFfnExperts tiny_;
  ThreadTeam team_{2};
  std::vector<model::FfnExpertWeights> experts_;
};

TEST_F(FfnPassTest, RowsOfItsDeviceComeAndGoInTheWiresDType) {
  ASSERT_OK_AND_ASSIGN(const auto memory,
                       exchange::RowMemory::Create(&kernels::CpuDevice(), 1 << 20));
  for (const kernels::DType wire : {kernels::DType::kF32, kernels::DType::kBF16}) {
    for (const bool combine : {false, true}) {
      std::vector<WaitingSwap> host, swaps;
      for (uint64_t id = 1; id <= 2; ++id) {
        exchange::SwapHeader header = TinyFfnExperts::RandomHeader(id, 1, 19, 3, combine);
        std::vector<float> sent = RowsOf(header);
        exchange::RoundToWire(wire, absl::MakeSpan(sent));
        host.push_back(Waiting(header, sent));
        header.format.dtype = wire;
        swaps.push_back(Waiting(
            header,
            testing::ToDevice(*memory, kernels::F32Matrix(sent.data(), 19, kTinyHidden), wire)));
      }
      // Piece by piece.
      const auto expected = Run(host, 7), results = Run(swaps, 7);
      for (size_t i = 0; i < 2; ++i) {
        std::vector<float> rows = expected[i].rows;
        exchange::RoundToWire(wire, absl::MakeSpan(rows));
        EXPECT_TRUE(results[i].rows.empty());
        EXPECT_EQ(testing::HostValues(results[i].device_rows), rows);
      }
    }
  }
}

TEST_F(FfnPassTest, GivesWhatTheFormulaSays) {
  for (const bool combine : {false, true}) {
    const exchange::SwapHeader header = TinyFfnExperts::RandomHeader(1, 1, 19, 3, combine);
    const auto results = Run({header}, 4096);
    const std::vector<double> expected = tiny_.Reference(*header.ffn(), RowsOf(header));
    ASSERT_EQ(results.at(0).size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_NEAR(results[0][i], expected[i], 1e-4) << (combine ? "combined " : "") << i;
    }
  }
}

TEST_F(FfnPassTest, NeitherMergingNorPiecesChangeABit) {
  std::vector<exchange::SwapHeader> headers;
  for (uint64_t id = 1; id <= 6; ++id) {
    headers.push_back(TinyFfnExperts::RandomHeader(id, 1, 3 * static_cast<int64_t>(id),
                                                   static_cast<uint32_t>(id), id % 2 == 0));
  }
  std::vector<std::vector<float>> alone;
  for (const exchange::SwapHeader& header : headers) {
    alone.push_back(Run(std::vector<exchange::SwapHeader>{header}, 4096).at(0));
  }
  for (const int64_t max_pairs : {1, 7, 64, 4096}) {  // never less than a row's with all experts
    EXPECT_EQ(Run(headers, max_pairs), alone) << "pieces of " << max_pairs << " pairs";
  }
}

TEST_F(FfnPassTest, RowsOfOneBlockThatAnIndexNamesGiveWhatTheirCopiesGive) {
  const exchange::SwapHeader header = TinyFfnExperts::RandomHeader(1, 1, 5, 9);
  const std::vector<float> block = TinyFfnExperts::Rows(8, 3);
  WaitingSwap named = Waiting(header, block);
  named.swap.rows.index = {7, 0, 3, 3, 1};
  std::vector<float> copies;
  for (const int32_t row : named.swap.rows.index) {
    copies.insert(copies.end(), block.begin() + row * kTinyHidden,
                  block.begin() + (row + 1) * kTinyHidden);
  }
  std::vector<WaitingSwap> copied, swaps;
  copied.push_back(Waiting(header, copies));
  swaps.push_back(std::move(named));
  const auto expected = Run(copied, 4096);
  EXPECT_EQ(Run(swaps, 4096)[0].rows, expected[0].rows);
  EXPECT_EQ(Run(swaps, 6)[0].rows, expected[0].rows);
}

TEST_F(FfnPassTest, CombinedRowsAreTheContributionsAddedInOrder) {
  exchange::SwapHeader header = TinyFfnExperts::RandomHeader(1, 1, 11, 9);
  const std::vector<float> pairs = Run({header}, 4096).at(0);
  std::get<exchange::FfnSwap>(header.work).combine = true;
  const std::vector<float> combined = Run({header}, 4096).at(0);
  const exchange::FfnSwap& ffn = *header.ffn();
  for (int64_t row = 0; row < header.rows(); ++row) {
    for (int64_t i = 0; i < kTinyHidden; ++i) {
      float sum = 0;
      for (int32_t pair = ffn.offsets[row]; pair < ffn.offsets[row + 1]; ++pair) {
        sum += pairs[pair * kTinyHidden + i];
      }
      EXPECT_EQ(combined[row * kTinyHidden + i], sum);
    }
  }
}

}  // namespace
}  // namespace ccoe::experts
