#include "runtime/experts/ffn_pass.h"

#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/exchange/row_codec.h"
#include "runtime/exchange/row_memory.h"
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

  std::vector<std::vector<float>> Run(const std::vector<exchange::StepHeader>& headers,
                                      int64_t max_pairs) {
    const auto pass = FfnPass::Create(tiny_.spec, max_pairs, kernels::MakeCpuOps(&team_));
    CCOE_CHECK(pass.ok());
    std::vector<WaitingSwap> swaps;
    for (const exchange::StepHeader& header : headers) {
      swaps.emplace_back();
      swaps.back().header = header;
      swaps.back().rows = RowsOf(header);
    }
    const auto results = (*pass)->Run(tiny_.spec.layers[1].ffn, experts_, swaps);
    EXPECT_OK(results.status());
    std::vector<std::vector<float>> rows;
    if (!results.ok()) return rows;
    for (const exchange::SwapResult& result : *results) {
      EXPECT_GT(result.expert_time, absl::ZeroDuration());
      EXPECT_TRUE(result.captured.empty());
      rows.push_back(result.rows);
    }
    return rows;
  }

  static std::vector<float> RowsOf(const exchange::StepHeader& header) {
    return TinyFfnExperts::Rows(header.rows(), static_cast<uint32_t>(header.step_id));
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
      std::vector<WaitingSwap> host(2), swaps(2);
      for (uint64_t i = 0; i < 2; ++i) {
        host[i].header = TinyFfnExperts::RandomDispatch(i + 1, 1, 19, 3, combine);
        std::vector<float> sent = RowsOf(host[i].header);
        exchange::RoundToWire(wire, absl::MakeSpan(sent));
        swaps[i].header = host[i].header;
        swaps[i].header.wire_dtype = wire;
        swaps[i].rows =
            testing::ToDevice(*memory, kernels::F32Matrix(sent.data(), 19, kTinyHidden), wire);
        host[i].rows = std::move(sent);
      }
      // Piece by piece.
      ASSERT_OK_AND_ASSIGN(const auto pass,
                           FfnPass::Create(tiny_.spec, 7, kernels::MakeCpuOps(&team_)));
      ASSERT_OK_AND_ASSIGN(const auto expected,
                           pass->Run(tiny_.spec.layers[1].ffn, experts_, host));
      ASSERT_OK_AND_ASSIGN(const auto results,
                           pass->Run(tiny_.spec.layers[1].ffn, experts_, swaps));
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
    const exchange::StepHeader header = TinyFfnExperts::RandomDispatch(1, 1, 19, 3, combine);
    const auto results = Run({header}, 4096);
    const std::vector<double> expected = tiny_.Reference(*header.ffn, RowsOf(header));
    ASSERT_EQ(results.at(0).size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_NEAR(results[0][i], expected[i], 1e-4) << (combine ? "combined " : "") << i;
    }
  }
}

TEST_F(FfnPassTest, NeitherMergingNorPiecesChangeABit) {
  std::vector<exchange::StepHeader> headers;
  for (uint64_t step = 1; step <= 6; ++step) {
    headers.push_back(TinyFfnExperts::RandomDispatch(step, 1, 3 * static_cast<int64_t>(step),
                                                     static_cast<uint32_t>(step), step % 2 == 0));
  }
  std::vector<std::vector<float>> alone;
  for (const exchange::StepHeader& header : headers) alone.push_back(Run({header}, 4096).at(0));
  for (const int64_t max_pairs : {1, 7, 64, 4096}) {  // never less than a row's with all experts
    EXPECT_EQ(Run(headers, max_pairs), alone) << "pieces of " << max_pairs << " pairs";
  }
}

TEST_F(FfnPassTest, CombinedRowsAreTheContributionsAddedInOrder) {
  exchange::StepHeader header = TinyFfnExperts::RandomDispatch(1, 1, 11, 9);
  const std::vector<float> pairs = Run({header}, 4096).at(0);
  header.ffn->combine = true;
  const std::vector<float> combined = Run({header}, 4096).at(0);
  for (int64_t row = 0; row < header.rows(); ++row) {
    for (int64_t i = 0; i < kTinyHidden; ++i) {
      float sum = 0;
      for (int32_t pair = header.ffn->offsets[row]; pair < header.ffn->offsets[row + 1]; ++pair) {
        sum += pairs[pair * kTinyHidden + i];
      }
      EXPECT_EQ(combined[row * kTinyHidden + i], sum);
    }
  }
}

}  // namespace
}  // namespace ccoe::experts
