// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/grouped_ffn.h"

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cuda/cuda_ops.h"
#include "tests/kernels/cuda/cuda_under_test.h"
#include "tests/kernels/test_tensors.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::kernels {
namespace {

class CudaGroupedFfnTest : public CudaTest {};

TEST_F(CudaGroupedFfnTest, APairHasTheSameBitsInGroupsOfAnySizeOverAlignedBf16Weights) {
  CudaOptions options;
  options.math = DType::kBF16;
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Ops> ops, MakeCudaOps(CudaDeviceUnderTest(), options));
  constexpr int64_t kHidden = 256, kIntermediate = 200, kRows = 150;
  DeviceMatrix gate(ops.get(), RandomDense(kIntermediate, kHidden, DType::kBF16, 1), DType::kBF16);
  DeviceMatrix up(ops.get(), RandomDense(kIntermediate, kHidden, DType::kBF16, 2), DType::kBF16);
  DeviceMatrix down(ops.get(), RandomDense(kHidden, kIntermediate, DType::kBF16, 3), DType::kBF16);
  DeviceMatrix x(ops.get(), RandomDense(kRows, kHidden, DType::kF32, 4, 0.2), DType::kF32);
  const auto run = [&](int64_t begin, int64_t count) {
    const ExpertGroup group{gate.view(), up.view(), down.view(), 0, count};
    DeviceMatrix out(ops.get(), count, kHidden);
    std::vector<int32_t> x_rows(count), out_rows(count);
    for (int64_t i = 0; i < count; ++i) {
      x_rows[i] = static_cast<int32_t>(begin + i);
      out_rows[i] = static_cast<int32_t>(i);
    }
    const std::vector<float> weights(count, 0.5f);
    GroupedFfnArgs args;
    args.x = x.view();
    args.groups = {&group, 1};
    args.x_rows = x_rows;
    args.out_rows = out_rows;
    args.weights = weights;
    args.out = out.view();
    ops->GroupedFfn(args);
    return out.Download();
  };
  const reference::Dense whole = run(0, kRows);
  EXPECT_NE(whole.at(0, 0), 0.0);
  for (int64_t count : {1, 8, 9, 16, 17, 33, 65, 129}) {
    EXPECT_EQ(FirstBitDifference(run(5, count), Rows(whole, 5, count)), "") << count;
  }
}

}  // namespace
}  // namespace ccoe::kernels
