// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/linear.h"

#include <cmath>
#include <cstdint>
#include <memory>

#include "kernels/cuda/cuda_ops.h"
#include "tests/kernels/cuda/cuda_under_test.h"
#include "tests/kernels/test_tensors.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::kernels {
namespace {

TEST(LinearTest, SixteenByteLoadsAreForRowsThatTheyNeitherSplitNorLeave) {
  alignas(16) uint16_t memory[64] = {};
  ConstMatrix weight{memory, DType::kBF16, 2, 16, 16};
  EXPECT_TRUE(HasFastWeights(weight));
  weight.stride = 20;
  EXPECT_FALSE(HasFastWeights(weight));
  weight.stride = 24;
  EXPECT_TRUE(HasFastWeights(weight));
  weight.cols = 15;
  EXPECT_FALSE(HasFastWeights(weight));
  weight.cols = 16;
  weight.data = memory + 1;
  EXPECT_FALSE(HasFastWeights(weight));
  weight.data = memory;
  weight.dtype = DType::kF16;
  EXPECT_FALSE(HasFastWeights(weight));
  ConstMatrix x{memory, DType::kF32, 1, 8, 12};
  EXPECT_TRUE(HasFastRows(x));
  x.stride = 13;
  EXPECT_FALSE(HasFastRows(x));
}

// Sizes of real models: all tiles of the tensor-core kernels, aligned weights, split sums.
struct LargeCase {
  int64_t rows, k, cols;
};
constexpr LargeCase kLargeCases[] = {{1, 1024, 512},  {8, 1024, 520},  {9, 512, 256},
                                     {16, 2048, 96},  {17, 1024, 512}, {40, 1088, 200},
                                     {100, 512, 384}, {200, 1024, 640}};

class CudaLinearTest : public CudaTest, public ::testing::WithParamInterface<bool> {};

TEST_P(CudaLinearTest, AlignedBf16WeightsMatchTheReferenceAndTheirUnalignedCopies) {
  if (IsSkipped()) return;
  if (!GetParam() && !HasCublasLt()) GTEST_SKIP() << "no cuBLASLt on this machine";
  CudaOptions options;
  options.math = DType::kBF16;
  options.deterministic = GetParam();
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Ops> ops, MakeCudaOps(CudaDeviceUnderTest(), options));
  for (const LargeCase& c : kLargeCases) {
    const reference::Dense x = RandomDense(c.rows, c.k, DType::kBF16, 1);
    const reference::Dense weight = RandomDense(c.cols, c.k, DType::kBF16, 2);
    DeviceMatrix dx(ops.get(), x, DType::kF32), aligned(ops.get(), weight, DType::kBF16);
    DeviceMatrix unaligned(ops.get(), weight, DType::kBF16, /*padding=*/1);
    DeviceMatrix out(ops.get(), c.rows, c.cols), other(ops.get(), c.rows, c.cols);
    LinearPart part;
    part.weight = aligned.view();
    part.out = out.view();
    ops->Linear(dx.view(), {&part, 1});
    part.weight = unaligned.view();
    part.out = other.view();
    ops->Linear(dx.view(), {&part, 1});
    const reference::Dense expected = reference::Linear(x, weight, {});
    // Operands are exact in bf16, so only sums are rounded.
    reference::Dense tolerance = reference::LinearMagnitude(x, weight);
    for (double& value : tolerance.values) value *= 4 * std::sqrt(c.k) * 6e-8;
    EXPECT_EQ(WorstDifference(out.Download(), expected, tolerance), "") << c.rows;
    EXPECT_EQ(WorstDifference(other.Download(), expected, tolerance), "") << c.rows;
    if (!GetParam()) continue;
    EXPECT_EQ(FirstBitDifference(out.Download(), other.Download()), "") << c.rows;
  }
}

class CudaDeterministicLinearTest : public CudaTest {};

TEST_F(CudaDeterministicLinearTest,
       ARowHasTheSameBitsInEveryKernelThatADeterministicProductMayTake) {
  if (IsSkipped()) return;
  CudaOptions options;
  options.math = DType::kBF16;
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Ops> ops, MakeCudaOps(CudaDeviceUnderTest(), options));
  for (int64_t k : {128, 1024, 1344}) {
    const reference::Dense x = RandomDense(300, k, DType::kF32, 1);
    DeviceMatrix weight(ops.get(), RandomDense(272, k, DType::kBF16, 2), DType::kBF16);
    const auto run = [&](int64_t begin, int64_t rows) {
      DeviceMatrix dx(ops.get(), Rows(x, begin, rows), DType::kF32), out(ops.get(), rows, 272);
      LinearPart part;
      part.weight = weight.view();
      part.out = out.view();
      ops->Linear(dx.view(), {&part, 1});
      return out.Download();
    };
    const reference::Dense whole = run(0, 300);
    for (int64_t rows : {1, 8, 16, 17, 33, 64, 65, 128, 129}) {
      EXPECT_EQ(FirstBitDifference(run(7, rows), Rows(whole, 7, rows)), "") << rows << " of " << k;
    }
  }
}

TEST_F(CudaDeterministicLinearTest,
       ColumnsHaveTheSameBitsWhetherTilesFillTheDeviceOrSegmentsAreSplit) {
  if (IsSkipped()) return;
  CudaOptions options;
  options.math = DType::kBF16;
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Ops> ops, MakeCudaOps(CudaDeviceUnderTest(), options));
  constexpr int64_t kRows = 300, kFeatures = 320, kFew = 100;
  const int64_t cols = SlowDevice() ? 1100 : 20000;  // tiles for all multiprocessors
  DeviceMatrix x(ops.get(), RandomDense(kRows, kFeatures, DType::kF32, 1), DType::kF32);
  DeviceMatrix weight(ops.get(), RandomDense(cols, kFeatures, DType::kBF16, 2), DType::kBF16);
  DeviceMatrix all(ops.get(), kRows, cols), few(ops.get(), kRows, kFew);
  LinearPart part;
  part.weight = weight.view();
  part.out = all.view();
  ops->Linear(x.view(), {&part, 1});
  part.weight = weight.view();
  part.weight.rows = kFew;
  part.out = few.view();
  ops->Linear(x.view(), {&part, 1});
  const reference::Dense whole = all.Download(), piece = few.Download();
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < kFew; ++c) ASSERT_EQ(piece.at(r, c), whole.at(r, c)) << r << ", " << c;
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, CudaLinearTest, ::testing::Bool());

}  // namespace
}  // namespace ccoe::kernels
