// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/sample.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace ccoe::kernels {
namespace {

// The conformance suite has the rules; this has teams, and memory that is used again.

std::vector<float> Logits(int64_t rows, int64_t vocab) {
  std::vector<float> logits(rows * vocab);
  uint32_t state = 7;
  for (float& logit : logits) {
    state = state * 1664525u + 1013904223u;
    logit = static_cast<float>(state >> 8) * 0x1p-20f - 8.0f;
  }
  return logits;
}

std::vector<SampledRow> Sample(int threads, const std::vector<float>& logits,
                               const std::vector<SampleRow>& rows) {
  ThreadTeam team(threads);
  std::vector<SampledRow> out(rows.size());
  const auto count = static_cast<int64_t>(rows.size());
  const auto vocab = static_cast<int64_t>(logits.size()) / count;
  CpuSampleRows(&team, {F32Matrix(logits.data(), count, vocab), rows}, absl::MakeSpan(out));
  return out;
}

TEST(CpuSampleRowsTest, ManyRowsGiveTheSameOnAnyTeam) {
  constexpr int64_t kRows = 60, kVocab = 3000;
  const std::vector<float> logits = Logits(kRows, kVocab);
  std::vector<SampleRow> rows(kRows);
  for (int64_t r = 0; r < kRows; ++r) {
    rows[r].temperature = static_cast<float>(r % 3);
    rows[r].top_k = r % 4 == 0 ? 50 : 0;
    rows[r].top_p = r % 5 == 0 ? 0.7f : 1.0f;
    rows[r].uniform = static_cast<double>(r) / kRows;
    rows[r].logprobs = static_cast<int32_t>(r % 4) - 1;
  }
  const std::vector<SampledRow> one = Sample(1, logits, rows), three = Sample(3, logits, rows);
  for (int64_t r = 0; r < kRows; ++r) {
    EXPECT_EQ(one[r].token_id, three[r].token_id) << r;
    EXPECT_EQ(one[r].logprob, three[r].logprob) << r;
    EXPECT_EQ(one[r].best.size(), three[r].best.size()) << r;
  }
}

TEST(CpuSampleRowsTest, ARowLeavesNothingBehindForTheNext) {
  constexpr int64_t kVocab = 100;
  const std::vector<float> logits = Logits(1, kVocab);
  const std::vector<int32_t> held_back = {3, 50};
  const std::vector<TokenCount> counts = {{4, 1}};
  SampleRow plain, adjusted;
  plain.temperature = 1.0f;
  plain.uniform = 0.6;
  adjusted = plain;
  adjusted.held_back = held_back;
  adjusted.counts = counts;
  adjusted.frequency_penalty = 2.0f;
  adjusted.top_p = 0.3f;
  const int32_t alone = Sample(1, logits, {plain})[0].token_id;
  std::vector<float> both = logits;
  both.insert(both.end(), logits.begin(), logits.end());
  EXPECT_EQ(Sample(1, both, {adjusted, plain})[1].token_id, alone);
}

TEST(CpuSampleRowsTest, NoRowsAreNothingToDo) {
  ThreadTeam team(1);
  CpuSampleRows(&team, {F32Matrix(static_cast<const float*>(nullptr), 0, 10), {}}, {});
}

}  // namespace
}  // namespace ccoe::kernels
