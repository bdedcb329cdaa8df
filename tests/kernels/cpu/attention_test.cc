// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/attention.h"

#include <numeric>
#include <vector>

#include "gtest/gtest.h"

namespace ccoe::kernels {
namespace {

// One sequence of `tokens` in pages of 16; the last row is asked.
std::vector<float> LastRow(int threads, int64_t tokens, int64_t heads = 4, int64_t kv_heads = 2) {
  constexpr int64_t kHeadDim = 16, kPage = 16;
  const int64_t pages = (tokens + kPage - 1) / kPage;
  std::vector<float> k(pages * kv_heads * kPage * kHeadDim), v(k.size()), q(heads * kHeadDim),
      out(q.size());
  for (size_t i = 0; i < k.size(); ++i) {
    k[i] = static_cast<float>(i * 29 % 103) / 103.0f - 0.5f;
    v[i] = static_cast<float>(i * 43 % 107) / 107.0f - 0.5f;
  }
  for (size_t i = 0; i < q.size(); ++i) q[i] = static_cast<float>(i * 7 % 13) - 6.0f;
  std::vector<int32_t> table(pages);
  std::iota(table.begin(), table.end(), 0);
  const SequenceRows sequence{0, 1, tokens - 1, table};
  PagedAttentionArgs args;
  args.q = F32Matrix(q.data(), 1, heads * kHeadDim);
  args.heads = heads;
  args.cache = {k.data(), v.data(), DType::kF32, pages, kPage, kv_heads, kHeadDim};
  args.sequences = {&sequence, 1};
  args.scale = 0.25f;
  args.out = F32Matrix(out.data(), 1, heads * kHeadDim);
  ThreadTeam team(threads);
  Scratch partials;
  CpuPagedAttention(&team, &partials, args);
  return out;
}

TEST(CpuPagedAttentionTest, ALongContextSplitOverThreadsGivesTheBitsOfOneThread) {
  for (int64_t tokens : {1, 256, 257, 2000}) {
    const std::vector<float> alone = LastRow(1, tokens);
    EXPECT_EQ(LastRow(2, tokens), alone) << tokens;
    EXPECT_EQ(LastRow(4, tokens), alone) << tokens;
  }
}

TEST(CpuPagedAttentionTest, ManyHeadsOfOneKvHeadCutApartForThreadsGiveTheBitsOfOneThread) {
  for (int64_t heads : {35, 96, 128, 200}) {
    for (int64_t tokens : {5, 600}) {
      const std::vector<float> alone = LastRow(1, tokens, heads, 1);
      EXPECT_EQ(LastRow(2, tokens, heads, 1), alone) << heads;
      EXPECT_EQ(LastRow(9, tokens, heads, 1), alone) << heads;
    }
  }
}

TEST(CpuPagedAttentionDeathTest, ABlockTableThatIsTooShortAborts) {
  std::vector<float> data(64);
  const std::vector<int32_t> table = {0};
  const SequenceRows sequence{0, 1, 4, table};
  PagedAttentionArgs args;
  args.q = F32Matrix(data.data(), 1, 4);
  args.heads = 1;
  args.cache = {data.data(), data.data(), DType::kF32, 1, 4, 1, 4};
  args.sequences = {&sequence, 1};
  args.out = F32Matrix(data.data() + 8, 1, 4);
  ThreadTeam team(1);
  Scratch partials;
  EXPECT_DEATH(CpuPagedAttention(&team, &partials, args), "block_table");
}

}  // namespace
}  // namespace ccoe::kernels
