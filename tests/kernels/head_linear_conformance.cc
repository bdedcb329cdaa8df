// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/linear.h"
#include "tests/kernels/ops_conformance.h"
#include "tests/kernels/test_tensors.h"

namespace ccoe::kernels {
namespace {

constexpr DType kWeightDTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

// Where heads lie: x and out have columns before, between and behind those of the heads, the
// weights rows between them.
struct Heads {
  int64_t heads = 1, rows = 1, in = 1, out = 1;
  bool shared_x = false;
  int64_t x_gap = 0, weight_gap = 0, out_gap = 0;

  int64_t x_step() const { return shared_x ? 0 : in + x_gap; }
  int64_t x_cols() const { return x_gap + (heads - 1) * x_step() + in; }
  int64_t weight_step() const { return out + weight_gap; }
  int64_t out_step() const { return out + out_gap; }
  int64_t out_cols() const { return out_gap + heads * out_step(); }
};

// Aligned and odd sizes, as many heads as rows and not, x shared and not, rows for every kernel.
constexpr Heads kCases[] = {{1, 3, 7, 5},
                            {4, 1, 64, 24, false, 64, 8, 16},
                            {3, 5, 33, 9, true, 1, 2, 3},
                            {16, 16, 128, 20, false, 0, 0, 0},
                            {5, 17, 96, 70, false, 3, 1, 2},
                            {8, 40, 72, 136, true, 0, 64, 4},
                            {2, 70, 200, 130, false, 8, 0, 0}};

class HeadsRun {
 public:
  HeadsRun(Ops* ops, const Heads& shape, DType dtype)
      : ops_(ops),
        shape_(shape),
        x_(RandomDense(shape.rows, shape.x_cols(), DType::kF32, 1)),
        weight_(RandomDense(shape.heads * shape.weight_step(), shape.in, dtype, 2)),
        dx_(ops, x_, DType::kF32),
        dw_(ops, weight_, dtype) {}

  // All that out holds; what no head writes is one.
  reference::Dense Run(int64_t first_row, int64_t rows) const {
    DeviceMatrix out = Ones(rows);
    HeadLinearArgs args;
    args.heads = shape_.heads;
    args.x = X(0).Slice(first_row, rows);
    args.x_step = shape_.x_step();
    args.weight = dw_.view().Slice(0, shape_.out);
    args.weight_step = shape_.weight_step();
    args.out = Out(out, 0);
    args.out_step = shape_.out_step();
    ops_->HeadLinear(args);
    return out.Download();
  }

  reference::Dense OneLinearAHead() const {
    DeviceMatrix out = Ones(shape_.rows);
    for (int64_t h = 0; h < shape_.heads; ++h) {
      LinearPart part;
      part.weight = dw_.view().Slice(h * shape_.weight_step(), shape_.out);
      part.out = Out(out, h);
      ops_->Linear(X(h), {&part, 1});
    }
    return out.Download();
  }

  reference::Dense Expected(reference::Dense (*product)(const reference::Dense&,
                                                        const reference::Dense&)) const {
    reference::Dense all(shape_.rows, shape_.out_cols());
    for (double& value : all.values) value = 1;
    for (int64_t h = 0; h < shape_.heads; ++h) {
      reference::Dense x(shape_.rows, shape_.in);
      for (int64_t r = 0; r < x.rows; ++r) {
        for (int64_t k = 0; k < x.cols; ++k) {
          x.at(r, k) = x_.at(r, shape_.x_gap + h * shape_.x_step() + k);
        }
      }
      const reference::Dense out = product(x, Rows(weight_, h * shape_.weight_step(), shape_.out));
      for (int64_t r = 0; r < x.rows; ++r) {
        for (int64_t c = 0; c < shape_.out; ++c) {
          all.at(r, shape_.out_gap + h * shape_.out_step() + c) = out.at(r, c);
        }
      }
    }
    return all;
  }

 private:
  DeviceMatrix Ones(int64_t rows) const {
    reference::Dense ones(rows, shape_.out_cols());
    for (double& value : ones.values) value = 1;
    return DeviceMatrix(ops_, ones, DType::kF32);
  }
  static Matrix ColumnsOf(const Matrix& m, int64_t begin, int64_t count) {
    return {static_cast<float*>(m.data) + begin, m.dtype, m.rows, count, m.stride};
  }
  Matrix X(int64_t head) const {
    return ColumnsOf(dx_.view(), shape_.x_gap + head * shape_.x_step(), shape_.in);
  }
  Matrix Out(const DeviceMatrix& out, int64_t head) const {
    return ColumnsOf(out.view(), shape_.out_gap + head * shape_.out_step(), shape_.out);
  }

  Ops* const ops_;
  const Heads shape_;
  const reference::Dense x_, weight_;
  const DeviceMatrix dx_, dw_;
};

TEST_P(OpsConformance, HeadLinearMatchesTheReferenceAndWritesNothingBesideItsHeads) {
  for (const Heads& shape : kCases) {
    for (DType dtype : kWeightDTypes) {
      const HeadsRun run(ops_.get(), shape, dtype);
      reference::Dense tolerance = run.Expected(reference::LinearMagnitude);
      const double eps = std::numeric_limits<float>::epsilon();
      for (double& value : tolerance.values) {
        value = (2 + std::sqrt(shape.in)) * eps * (value + 1) + GetParam().product_eps * value;
      }
      const reference::Dense expected =
          run.Expected([](const reference::Dense& x, const reference::Dense& weight) {
            return reference::Linear(x, weight, {});
          });
      EXPECT_EQ(WorstDifference(run.Run(0, shape.rows), expected, tolerance), "")
          << shape.heads << " heads, " << shape.rows << " rows, " << DTypeName(dtype);
    }
  }
}

TEST_P(OpsDeterminism, HeadLinearHasTheBitsOfOneLinearAHead) {
  for (const Heads& shape : kCases) {
    for (DType dtype : kWeightDTypes) {
      const HeadsRun run(ops_.get(), shape, dtype);
      EXPECT_EQ(FirstBitDifference(run.Run(0, shape.rows), run.OneLinearAHead()), "")
          << shape.heads << " heads, " << shape.rows << " rows, " << DTypeName(dtype);
    }
  }
}

TEST_P(OpsDeterminism, HeadLinearGivesARowTheSameBitsAloneAndInBatches) {
  for (DType dtype : kWeightDTypes) {
    const Heads shape{3, 40, 136, 21, false, 8, 0, 1};
    const HeadsRun run(ops_.get(), shape, dtype);
    const reference::Dense whole = run.Run(0, shape.rows);
    for (int64_t rows : {1, 4, 8, 9, 16, 17, 33}) {
      EXPECT_EQ(FirstBitDifference(run.Run(3, rows), Rows(whole, 3, rows)), "")
          << rows << " rows, " << DTypeName(dtype);
    }
  }
}

TEST_P(OpsConformance, HeadLinearOfNoRowsOrNoHeadsDoesNothing) {
  DeviceMatrix x(ops_.get(), 0, 16), weight(ops_.get(), 4, 16), out(ops_.get(), 0, 4);
  HeadLinearArgs args;
  args.heads = 1;
  args.x = x.view();
  args.weight = weight.view();
  args.out = out.view();
  ops_->HeadLinear(args);
  args.heads = 0;
  ops_->HeadLinear(args);
  EXPECT_TRUE(ops_->Synchronize().ok());
}

}  // namespace
}  // namespace ccoe::kernels
