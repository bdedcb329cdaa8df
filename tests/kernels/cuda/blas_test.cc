// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/blas.h"

#include <memory>

#include "kernels/cuda/cuda_ops.h"
#include "tests/kernels/cuda/cuda_under_test.h"
#include "tests/kernels/test_tensors.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::kernels {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

class BlasTest : public CudaTest {};

TEST_F(BlasTest, FastNumericsNeedTheLibraryAndDeterministicOnesDoNot) {
  CudaOptions options;
  ASSERT_OK(MakeCudaOps(CudaDeviceUnderTest(), options).status());
  options.deterministic = false;
  const absl::Status fast = MakeCudaOps(CudaDeviceUnderTest(), options).status();
  if (HasCublasLt()) {
    EXPECT_OK(fast);
  } else {
    EXPECT_THAT(fast, StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("cuBLASLt")));
  }
}

TEST_F(BlasTest, AProductOverSegmentsOfItsFeaturesAddsUpToTheWhole) {
  if (!HasCublasLt()) GTEST_SKIP() << "no cuBLASLt on this machine";
  constexpr int64_t kRows = 24, kCols = 40, kFeatures = 192, kSegment = 64;
  ASSERT_OK_AND_ASSIGN(const auto ops, MakeCudaOps(CudaDeviceUnderTest(), {}));
  ASSERT_OK_AND_ASSIGN(const auto stream, Stream::Create({}));
  ASSERT_OK_AND_ASSIGN(const auto blas, Blas::Create());
  const reference::Dense x = RandomDense(kRows, kFeatures, DType::kBF16, 1);
  const reference::Dense weight = RandomDense(kCols, kFeatures, DType::kBF16, 2);
  const DeviceMatrix dx(ops.get(), x, DType::kBF16), dweight(ops.get(), weight, DType::kBF16);
  const DeviceMatrix out(ops.get(), kRows, kCols);
  for (int64_t begin = 0; begin < kFeatures; begin += kSegment) {
    BlasProduct product;
    product.x = static_cast<const char*>(dx.view().data) + begin * 2;
    product.weight = static_cast<const char*>(dweight.view().data) + begin * 2;
    product.out = static_cast<float*>(out.view().data);
    product.rows = kRows;
    product.cols = product.out_stride = kCols;
    product.k = kSegment;
    product.x_stride = product.weight_stride = kFeatures;
    product.accumulate = begin > 0;
    ASSERT_TRUE(blas->Multiply(product, stream->Workspace(Blas::kWorkspaceBytes), stream.get()));
  }
  ASSERT_OK(stream->Synchronize());
  reference::Dense tolerance = reference::LinearMagnitude(x, weight);
  for (double& value : tolerance.values) value *= 1e-5;
  EXPECT_EQ(WorstDifference(out.Download(), reference::Linear(x, weight, {}), tolerance), "");
}

}  // namespace
}  // namespace ccoe::kernels
