// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/sample_rows.h"

#include <cstdint>
#include <memory>
#include <numeric>
#include <vector>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cuda/cuda_ops.h"
#include "runtime/base/parallel.h"
#include "tests/kernels/cuda/cuda_under_test.h"
#include "tests/kernels/test_tensors.h"

namespace ccoe::kernels {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

constexpr int64_t kVocab = 5000;

// Rows of every kind, which view what they need here.
struct Rows {
  explicit Rows(int64_t count, int64_t seen) : counts(seen), held_back{7, 4999}, rows(count) {
    for (int64_t i = 0; i < seen; ++i) {
      counts[i] = {static_cast<int32_t>(3 * i), static_cast<int32_t>(i % 4)};
    }
    for (int64_t r = 0; r < count; ++r) {
      SampleRow& row = rows[r];
      row.temperature = static_cast<float>(r % 4) * 0.6f;
      row.top_k = r % 3 == 0 ? 60 : 0;
      row.top_p = r % 5 < 2 ? 0.8f : 1.0f;
      row.min_p = r % 7 == 0 ? 0.02f : 0.0f;
      row.uniform = (r + 0.5) / static_cast<double>(count);
      row.logprobs = static_cast<int32_t>(r % 6) - 1;
      if (r % 2 == 0) row.counts = counts;
      if (r % 9 == 0) row.held_back = held_back;
      row.repetition_penalty = 1.2f;
      row.frequency_penalty = 0.3f;
    }
  }

  std::vector<TokenCount> counts;
  std::vector<int32_t> held_back;
  std::vector<SampleRow> rows;
};

std::vector<SampledRow> Sample(Ops* ops, const reference::Dense& logits,
                               const std::vector<SampleRow>& rows) {
  const DeviceMatrix device(ops, logits, DType::kF32, /*padding=*/1);
  std::vector<SampledRow> out(rows.size());
  EXPECT_OK(ops->SampleRows({device.view(), rows}, absl::MakeSpan(out)));
  return out;
}

void ExpectSameAsCpu(const CudaOptions& options, const Rows& rows) {
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Ops> cuda, MakeCudaOps(CudaDeviceUnderTest(), options));
  ThreadTeam team(1);
  const std::unique_ptr<Ops> cpu = MakeCpuOps(&team);
  const auto count = static_cast<int64_t>(rows.rows.size());
  const reference::Dense logits = RandomDense(count, kVocab, DType::kF32, 3, 3.0);
  const std::vector<SampledRow> expected = Sample(cpu.get(), logits, rows.rows);
  const std::vector<SampledRow> found = Sample(cuda.get(), logits, rows.rows);
  for (int64_t r = 0; r < count; ++r) {
    EXPECT_EQ(found[r].token_id, expected[r].token_id) << r;
    EXPECT_EQ(found[r].logprob, expected[r].logprob) << r;
    ASSERT_EQ(found[r].best.size(), expected[r].best.size()) << r;
    for (size_t i = 0; i < found[r].best.size(); ++i) {
      EXPECT_EQ(found[r].best[i].id, expected[r].best[i].id) << r;
      EXPECT_EQ(found[r].best[i].logprob, expected[r].best[i].logprob) << r;
    }
  }
}

class CudaSampleRowsTest : public CudaTest {};

TEST_F(CudaSampleRowsTest, TokensAndLogprobsAreTheCpusBitForBit) {
  ExpectSameAsCpu(CudaOptions(), Rows(90, 40));
}

TEST_F(CudaSampleRowsTest, RowsThatDoNotFitTogetherGoInSeveralLaunches) {
  CudaOptions options;
  options.host_ring_bytes = 64 << 10;  // 16 KB at once: two rows of 800 counts
  options.workspace_bytes = 4096;
  ExpectSameAsCpu(options, Rows(24, 800));
}

TEST_F(CudaSampleRowsTest, ARowThatDoesNotFitAloneIsAnErrorAndTheOpsWorkAgain) {
  CudaOptions options;
  options.host_ring_bytes = 8 << 10;
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Ops> ops, MakeCudaOps(CudaDeviceUnderTest(), options));
  const DeviceMatrix logits(ops.get(), RandomDense(1, kVocab, DType::kF32, 1), DType::kF32);
  std::vector<SampledRow> out(1);
  EXPECT_THAT(ops->SampleRows({logits.view(), Rows(1, 800).rows}, absl::MakeSpan(out)),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("host_ring_bytes")));
  EXPECT_OK(ops->SampleRows({logits.view(), std::vector<SampleRow>(1)}, absl::MakeSpan(out)));
  EXPECT_GE(out[0].token_id, 0);
}

}  // namespace
}  // namespace ccoe::kernels
