// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/half.h"
#include "tests/kernels/ops_conformance.h"
#include "tests/kernels/test_tensors.h"

namespace ccoe::kernels {
namespace {

constexpr double kEps = std::numeric_limits<float>::epsilon();
constexpr DType kFloats[] = {DType::kF32, DType::kF16, DType::kBF16};

// |expected| * relative + absolute.
reference::Dense Relative(const reference::Dense& expected, double relative, double absolute) {
  reference::Dense tolerance = expected;
  for (double& value : tolerance.values) value = std::abs(value) * relative + absolute;
  return tolerance;
}

TEST_P(OpsConformance, EmbedRowsWidensAndScales) {
  for (DType dtype : kFloats) {
    for (float scale : {1.0f, 7.5f}) {
      const reference::Dense table = RandomDense(11, 37, dtype, 1);
      DeviceMatrix dtable(ops_.get(), table, dtype), out(ops_.get(), 4, 37);
      const std::vector<int32_t> ids = {10, 0, 3, 3};
      ops_->EmbedRows(dtable.view(), ids, scale, out.view());
      reference::Dense expected(4, 37);
      for (int64_t r = 0; r < 4; ++r) {
        for (int64_t c = 0; c < 37; ++c) expected.at(r, c) = scale * table.at(ids[r], c);
      }
      EXPECT_EQ(WorstDifference(out.Download(), expected, Relative(expected, kEps, 0)), "")
          << DTypeName(dtype);
    }
  }
}

TEST_P(OpsConformance, RmsNormMatchesTheReferenceAlsoInPlace) {
  for (DType dtype : kFloats) {
    for (int64_t cols : {1, 7, 64, 100, 1000}) {
      const reference::Dense x = RandomDense(9, cols, DType::kF32, 1, 3.0),
                             weight = RandomDense(1, cols, dtype, 2);
      DeviceMatrix dx(ops_.get(), x, DType::kF32, 2), dweight(ops_.get(), weight, dtype),
          out(ops_.get(), 9, cols);
      ops_->RmsNorm(dx.view(), dweight.view(), 1e-5f, out.view());
      const reference::Dense expected = reference::RmsNorm(x, weight, 1e-5);
      const reference::Dense tolerance = Relative(expected, kEps * (4 + std::sqrt(cols)), 0);
      EXPECT_EQ(WorstDifference(out.Download(), expected, tolerance), "") << cols;
      ops_->RmsNorm(dx.view(), dweight.view(), 1e-5f, dx.view());
      EXPECT_EQ(FirstBitDifference(dx.Download(), out.Download()), "") << cols;
    }
  }
}

TEST_P(OpsConformance, AddRmsNormIsRmsNormAndThenAddRowsToTheBit) {
  for (DType dtype : kFloats) {
    for (int64_t cols : {1, 7, 64, 100, 1000, 2049}) {
      const reference::Dense x = RandomDense(9, cols, DType::kF32, 1, 3.0),
                             weight = RandomDense(1, cols, dtype, 2),
                             sum = RandomDense(9, cols, DType::kF32, 3);
      const DeviceMatrix dx(ops_.get(), x, DType::kF32, 2), dweight(ops_.get(), weight, dtype);
      DeviceMatrix normed(ops_.get(), 9, cols), expected(ops_.get(), sum, DType::kF32),
          found(ops_.get(), sum, DType::kF32, 3);
      ops_->RmsNorm(dx.view(), dweight.view(), 1e-5f, normed.view());
      ops_->AddRows(normed.view(), expected.view());
      ops_->AddRmsNorm(dx.view(), dweight.view(), 1e-5f, found.view());
      EXPECT_EQ(FirstBitDifference(found.Download(), expected.Download()), "")
          << DTypeName(dtype) << cols;
    }
  }
}

TEST_P(OpsConformance, GatedActivationsMatchTheReference) {
  for (Activation activation : {Activation::kSilu, Activation::kGeluTanh, Activation::kGeluErf}) {
    reference::Dense gate(3, 1001), up = RandomDense(3, 1001, DType::kF32, 2);
    for (int64_t i = 0; i < 1001; ++i) {
      gate.at(0, i) = static_cast<float>((i - 500) * 0.01);  // the usual range
      gate.at(1, i) = static_cast<float>((i - 500) * 0.5);   // the tails
      gate.at(2, i) = static_cast<float>((i - 500) * 1e-6);  // about zero
    }
    gate.at(1, 0) = -3e38f;
    gate.at(1, 1) = 1e38f;
    reference::Dense expected(3, 1001);
    for (size_t i = 0; i < expected.values.size(); ++i) {
      expected.values[i] = reference::Activate(activation, gate.values[i]) * up.values[i];
    }
    DeviceMatrix dgate(ops_.get(), gate, DType::kF32), dup(ops_.get(), up, DType::kF32),
        out(ops_.get(), 3, 1001);
    ops_->GatedActivation(activation, dgate.view(), dup.view(), out.view());
    EXPECT_EQ(WorstDifference(out.Download(), expected, Relative(expected, 2e-6, 1e-7)), "")
        << static_cast<int>(activation);
    ops_->GatedActivation(activation, dgate.view(), dup.view(), dgate.view());
    EXPECT_EQ(FirstBitDifference(dgate.Download(), out.Download()), "");
  }
}

TEST_P(OpsConformance, AddRowsAndScaleRowsMatchTheReference) {
  const reference::Dense x = RandomDense(7, 133, DType::kF32, 1),
                         sum = RandomDense(7, 133, DType::kF32, 2);
  DeviceMatrix dx(ops_.get(), x, DType::kF32, 1), dsum(ops_.get(), sum, DType::kF32, 3);
  ops_->AddRows(dx.view(), dsum.view());
  reference::Dense expected = sum, scaled = x, capped = x;
  for (size_t i = 0; i < x.values.size(); ++i) {
    expected.values[i] += x.values[i];
    scaled.values[i] *= 0.3;
    capped.values[i] = 2.0 * std::tanh(1.5 * x.values[i] / 2.0);
  }
  EXPECT_EQ(WorstDifference(dsum.Download(), expected, Relative(expected, kEps, 0)), "");
  ops_->ScaleRows(0.3f, 0.0f, dx.view());
  EXPECT_EQ(WorstDifference(dx.Download(), scaled, Relative(scaled, 2 * kEps, 0)), "");
  dx.Upload(x);
  ops_->ScaleRows(1.5f, 2.0f, dx.view());
  EXPECT_EQ(WorstDifference(dx.Download(), capped, Relative(capped, 16 * kEps, 0)), "");
}

TEST_P(OpsConformance, ScaleRowsBySigmoidMatchesTheReference) {
  const reference::Dense x = RandomDense(6, 133, DType::kF32, 1);
  reference::Dense gate(6, 1), expected = x;
  gate.values = {0, 1.5, -1.5, 30, -30, -200};
  for (int64_t r = 0; r < 6; ++r) {
    for (int64_t c = 0; c < 133; ++c) expected.at(r, c) /= 1.0 + std::exp(-gate.at(r, 0));
  }
  DeviceMatrix dx(ops_.get(), x, DType::kF32, 3), dgate(ops_.get(), gate, DType::kF32, 2);
  ops_->ScaleRowsBySigmoid(dgate.view(), dx.view());
  EXPECT_EQ(WorstDifference(dx.Download(), expected, Relative(expected, 4 * kEps, 1e-37)), "");
}

TEST_P(OpsConformance, ClampRowsKeepsWhatIsWithinTheLimit) {
  const reference::Dense x = RandomDense(5, 71, DType::kF32, 1, 3.0);
  reference::Dense expected = x;
  for (double& value : expected.values) value = std::clamp(value, -2.5, 2.5);
  DeviceMatrix dx(ops_.get(), x, DType::kF32, 3);
  ops_->ClampRows(2.5f, dx.view());
  EXPECT_EQ(FirstBitDifference(dx.Download(), expected), "");
}

TEST_P(OpsConformance, CombineRowsAddsInOrderAndZeroesRowsWithoutContributions) {
  const reference::Dense x = RandomDense(7, 133, DType::kF32, 1);
  const std::vector<int32_t> offsets = {0, 0, 3, 4, 4, 7};
  reference::Dense expected(5, 133);
  for (int64_t r = 0; r < 5; ++r) {
    for (int64_t c = 0; c < 133; ++c) {
      float sum = 0;
      for (int32_t p = offsets[r]; p < offsets[r + 1]; ++p) sum += static_cast<float>(x.at(p, c));
      expected.at(r, c) = sum;
    }
  }
  DeviceMatrix dx(ops_.get(), x, DType::kF32, 2);
  DeviceMatrix out(ops_.get(), RandomDense(5, 133, DType::kF32, 2), DType::kF32, 1);
  ops_->CombineRows({dx.view(), offsets, out.view()});
  EXPECT_EQ(FirstBitDifference(out.Download(), expected), "");
}

TEST_P(OpsConformance, CombineRowsOfNoContributionsAtAllGivesZeros) {
  const std::vector<int32_t> offsets = {0, 0, 0};
  DeviceMatrix out(ops_.get(), RandomDense(2, 9, DType::kF32, 2), DType::kF32);
  ops_->CombineRows({{}, offsets, out.view()});
  EXPECT_EQ(FirstBitDifference(out.Download(), reference::Dense(2, 9)), "");
}

TEST_P(OpsConformance, GatherAndScatterConvertBetweenAllFloatDtypes) {
  for (DType from : kFloats) {
    for (DType to : kFloats) {
      const reference::Dense x = RandomDense(6, 45, from, 1);
      DeviceMatrix dx(ops_.get(), x, from), gathered(ops_.get(), 3, 45, to),
          scattered(ops_.get(), 6, 45, to);
      const std::vector<int32_t> rows = {5, 0, 2};
      ops_->GatherRows(dx.view(), rows, gathered.view());
      // What the dtype can hold of these values is known by writing them.
      reference::Dense picked(3, 45);
      for (int64_t r = 0; r < 3; ++r)
        std::copy_n(&x.values[rows[r] * 45], 45, &picked.values[r * 45]);
      DeviceMatrix rounded(ops_.get(), picked, to);
      EXPECT_EQ(FirstBitDifference(gathered.Download(), rounded.Download()), "")
          << DTypeName(from) << DTypeName(to);
      const DeviceMatrix source(ops_.get(), picked, from);
      ops_->ScatterRows(source.view(), rows, scattered.view());
      const reference::Dense spread = scattered.Download(), expected = rounded.Download();
      for (int64_t r = 0; r < 3; ++r) {
        EXPECT_EQ(FirstBitDifference(Rows(spread, rows[r], 1), Rows(expected, r, 1)), "");
      }
      EXPECT_EQ(spread.at(1, 0), 0.0);
    }
  }
}

}  // namespace
}  // namespace ccoe::kernels
