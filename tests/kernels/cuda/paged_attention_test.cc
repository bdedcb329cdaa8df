// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/paged_attention.h"

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cuda/cuda_ops.h"
#include "tests/kernels/cuda/cuda_under_test.h"
#include "tests/kernels/test_tensors.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::kernels {
namespace {

// One sequence over a cache of its own pages, in order.
class CudaAttentionTest : public CudaTest {
 protected:
  static constexpr int64_t kPage = 16, kTokens = 300;

  // Attention of the last `rows` rows of the sequence.
  static reference::Dense Run(Ops* ops, DType dtype, int64_t head_dim, int64_t rows,
                              int64_t kv_heads = 0) {
    // Blocks for all multiprocessors.
    if (kv_heads == 0) kv_heads = SlowDevice() ? 4 : 64;
    const int64_t heads = 2 * kv_heads;
    const int64_t pages = (kTokens + kPage - 1) / kPage, lines = pages * kv_heads * kPage;
    DeviceMatrix k(ops, RandomDense(lines, head_dim, dtype, 1), dtype);
    DeviceMatrix v(ops, RandomDense(lines, head_dim, dtype, 2), dtype);
    const reference::Dense q = RandomDense(kTokens, heads * head_dim, DType::kF32, 3);
    DeviceMatrix dq(ops, Rows(q, kTokens - rows, rows), DType::kF32);
    DeviceMatrix out(ops, rows, heads * head_dim);
    std::vector<int32_t> table(pages);
    for (int64_t i = 0; i < pages; ++i) table[i] = static_cast<int32_t>(i);
    const SequenceRows sequence{0, rows, kTokens - rows, table};
    PagedAttentionArgs args;
    args.q = dq.view();
    args.heads = heads;
    args.cache = {k.view().data, v.view().data, dtype, pages, kPage, kv_heads, head_dim};
    args.sequences = {&sequence, 1};
    args.scale = 0.1f;
    args.out = out.view();
    ops->PagedAttention(args);
    return out.Download();
  }
};

TEST_F(CudaAttentionTest, ChunksJoinToTheSameBitsWithinABlockAndBetweenBlocks) {
  for (DType math : {DType::kF32, DType::kBF16}) {
    CudaOptions options;
    options.math = math;
    ASSERT_OK_AND_ASSIGN(std::unique_ptr<Ops> ops, MakeCudaOps(CudaDeviceUnderTest(), options));
    for (int64_t head_dim : {64}) {
      // All rows are enough blocks for the device, so each does all its chunks; one row is not.
      const reference::Dense whole = Run(ops.get(), DType::kBF16, head_dim, kTokens);
      EXPECT_EQ(FirstBitDifference(Run(ops.get(), DType::kBF16, head_dim, 1),
                                   Rows(whole, kTokens - 1, 1)),
                "")
          << DTypeName(math) << " " << head_dim;
    }
  }
}

// Tiles of 64 queries need 130 KB of shared memory at this width, which not all devices have.
TEST_F(CudaAttentionTest, HeadsOf256HaveTheBitsOfOneRowWhateverTheDevicesSharedMemory) {
  CudaOptions options;
  options.math = DType::kBF16;
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Ops> ops, MakeCudaOps(CudaDeviceUnderTest(), options));
  const reference::Dense many = Run(ops.get(), DType::kBF16, 256, 40, /*kv_heads=*/1);
  ASSERT_OK(ops->Synchronize());
  for (int64_t last : {1, 9}) {
    EXPECT_EQ(FirstBitDifference(Run(ops.get(), DType::kBF16, 256, last, /*kv_heads=*/1),
                                 Rows(many, 40 - last, last)),
              "")
        << last;
  }
}

}  // namespace
}  // namespace ccoe::kernels
