// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/linear.h"
#include "tests/kernels/ops_conformance.h"
#include "tests/kernels/test_tensors.h"

namespace ccoe::kernels {
namespace {

constexpr DType kWeightDTypes[] = {DType::kF32, DType::kF16, DType::kBF16};
constexpr double kEps = std::numeric_limits<float>::epsilon();

// Rounding errors of a dot product of K terms grow like sqrt(K) epsilon times the sum of magnitudes
// at most, and each product may have been rounded before.
reference::Dense LinearTolerance(const reference::Dense& x, const reference::Dense& weight,
                                 double product_eps) {
  reference::Dense tolerance = reference::LinearMagnitude(x, weight);
  for (double& value : tolerance.values)
    value = (2 + std::sqrt(x.cols)) * kEps * (value + 1) + product_eps * value;
  return tolerance;
}

struct LinearCase {
  int64_t rows, k, cols;
};

constexpr LinearCase kLinearCases[] = {
    {1, 7, 3},   {1, 64, 64},   {2, 96, 70}, {3, 112, 9},  {6, 64, 8},   {7, 1000, 5}, {13, 33, 17},
    {16, 96, 2}, {33, 112, 65}, {50, 1, 1},  {5, 1400, 6}, {9, 1400, 6}, {101, 64, 67}};

TEST_P(OpsConformance, LinearMatchesTheReferenceForEveryShapeAndWeightDtype) {
  for (const LinearCase& c : kLinearCases) {
    for (DType dtype : kWeightDTypes) {
      const reference::Dense x = RandomDense(c.rows, c.k, DType::kF32, 1);
      const reference::Dense weight = RandomDense(c.cols, c.k, dtype, 2);
      DeviceMatrix dx(ops_.get(), x, DType::kF32, /*padding=*/3);
      DeviceMatrix dw(ops_.get(), weight, dtype, /*padding=*/1);
      DeviceMatrix out(ops_.get(), c.rows, c.cols, DType::kF32, /*padding=*/2);
      LinearPart part;
      part.weight = dw.view();
      part.out = out.view();
      ops_->Linear(dx.view(), {&part, 1});
      EXPECT_EQ(WorstDifference(out.Download(), reference::Linear(x, weight, {}),
                                LinearTolerance(x, weight, GetParam().product_eps)),
                "")
          << c.rows << " x " << c.k << " x " << c.cols << " " << DTypeName(dtype);
    }
  }
}

TEST_P(OpsConformance, LinearAddsBiasesAndAccumulatesOverSeveralPartsAtOnce) {
  for (int64_t rows : {1, 4, 20}) {
    const reference::Dense x = RandomDense(rows, 80, DType::kF32, 1);
    const reference::Dense w0 = RandomDense(40, 80, DType::kBF16, 2),
                           w1 = RandomDense(13, 80, DType::kF16, 3);
    const reference::Dense b0 = RandomDense(1, 40, DType::kBF16, 4),
                           b1 = RandomDense(1, 13, DType::kF32, 5);
    const reference::Dense before = RandomDense(rows, 13, DType::kF32, 6);
    DeviceMatrix dx(ops_.get(), x, DType::kF32), dw0(ops_.get(), w0, DType::kBF16),
        dw1(ops_.get(), w1, DType::kF16);
    DeviceMatrix db0(ops_.get(), b0, DType::kBF16), db1(ops_.get(), b1, DType::kF32);
    DeviceMatrix out0(ops_.get(), rows, 40), out1(ops_.get(), before, DType::kF32);
    const LinearPart parts[] = {{dw0.view(), db0.view(), out0.view(), false},
                                {dw1.view(), db1.view(), out1.view(), true}};
    ops_->Linear(dx.view(), parts);
    reference::Dense sum = reference::Linear(x, w1, b1);
    for (size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += before.values[i];
    EXPECT_EQ(WorstDifference(out0.Download(), reference::Linear(x, w0, b0),
                              LinearTolerance(x, w0, GetParam().product_eps)),
              "")
        << rows;
    EXPECT_EQ(WorstDifference(out1.Download(), sum, LinearTolerance(x, w1, GetParam().product_eps)),
              "")
        << rows;
  }
}

reference::Dense RunLinear(Ops* ops, const reference::Dense& x, const DeviceMatrix& weight,
                           const DeviceMatrix& bias) {
  DeviceMatrix dx(ops, x, DType::kF32);
  DeviceMatrix out(ops, x.rows, weight.view().rows);
  const LinearPart part{weight.view(), bias.view(), out.view(), false};
  ops->Linear(dx.view(), {&part, 1});
  return out.Download();
}

TEST_P(OpsDeterminism, LinearGivesARowTheSameBitsAloneAndInBatchesOfOneToThirtyThree) {
  for (int64_t k : {7, 64, 96, 112, 1000}) {
    for (DType dtype : kWeightDTypes) {
      const reference::Dense x = RandomDense(33, k, DType::kF32, 1);
      DeviceMatrix weight(ops_.get(), RandomDense(21, k, dtype, 2), dtype);
      DeviceMatrix bias(ops_.get(), RandomDense(1, 21, dtype, 3), dtype);
      const reference::Dense whole = RunLinear(ops_.get(), x, weight, bias);
      for (int64_t batch = 1; batch <= 32; ++batch) {
        const int64_t begin = (33 - batch) / 2;
        EXPECT_EQ(FirstBitDifference(RunLinear(ops_.get(), Rows(x, begin, batch), weight, bias),
                                     Rows(whole, begin, batch)),
                  "")
            << "batch " << batch << ", k " << k << ", " << DTypeName(dtype);
      }
    }
  }
}

TEST_P(OpsDeterminism, LinearGivesTheSameBitsForManyRowsAndLongRows) {
  const reference::Dense x = RandomDense(130, 1500, DType::kF32, 1);
  DeviceMatrix weight(ops_.get(), RandomDense(70, 1500, DType::kBF16, 2), DType::kBF16);
  DeviceMatrix bias(ops_.get(), RandomDense(1, 70, DType::kF32, 3), DType::kF32);
  const reference::Dense whole = RunLinear(ops_.get(), x, weight, bias);
  for (int64_t batch : {1, 5, 16, 60}) {
    EXPECT_EQ(FirstBitDifference(RunLinear(ops_.get(), Rows(x, 40, batch), weight, bias),
                                 Rows(whole, 40, batch)),
              "")
        << batch;
  }
}

TEST_P(OpsConformance, LinearOfNoRowsDoesNothing) {
  DeviceMatrix x(ops_.get(), 0, 16), weight(ops_.get(), 4, 16), out(ops_.get(), 0, 4);
  const LinearPart part{weight.view(), {}, out.view(), false};
  ops_->Linear(x.view(), {&part, 1});
  EXPECT_TRUE(ops_->Synchronize().ok());
}

}  // namespace
}  // namespace ccoe::kernels
