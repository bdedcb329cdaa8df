// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/roofline/roofline.h"

#include <cmath>

#include "gtest/gtest.h"
#include "kernels/cuda/cuda_ops.h"

namespace ccoe::kernels {
namespace {

TEST(CudaRooflineTest, MeasuresPositiveFiniteRatesWhereAGpuIs) {
  const absl::StatusOr<double> bandwidth = MeasureCudaReadBandwidth(0);
  CudaGemmShape shape;
  shape.rows = shape.in_features = shape.out_features = 256;
  const absl::StatusOr<double> gemm = MeasureCudaGemm(0, shape);
  if (CudaDeviceCount() == 0) {
    EXPECT_FALSE(bandwidth.ok());
    EXPECT_FALSE(gemm.ok());
    return;
  }
  ASSERT_TRUE(bandwidth.ok()) << bandwidth.status();
  ASSERT_TRUE(gemm.ok()) << gemm.status();
  EXPECT_TRUE(std::isfinite(*bandwidth) && *bandwidth > 0) << *bandwidth;
  EXPECT_TRUE(std::isfinite(*gemm) && *gemm > 0) << *gemm;
}

TEST(CudaRooflineTest, RefusesShapesThatAreNone) {
  CudaGemmShape shape;
  shape.rows = 0;
  EXPECT_FALSE(MeasureCudaGemm(0, shape).ok());
  shape = {};
  shape.dtype = DType::kF32;
  EXPECT_FALSE(MeasureCudaGemm(0, shape).ok());
}

}  // namespace
}  // namespace ccoe::kernels
