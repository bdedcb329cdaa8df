#include "kernels/cuda/cuda_ops.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "tests/kernels/cuda/cuda_under_test.h"
#include "tests/kernels/ops_conformance.h"
#include "tests/kernels/test_tensors.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::kernels {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

// Both operands rounded to bf16: half an ulp of eight bits each.
constexpr double kBf16Product = 1.0 / 256;

OpsUnderTest Under(const std::string& name, const CudaOptions& options, DType kv_dtype) {
  OpsUnderTest test;
  test.name = name;
  test.deterministic = options.deterministic;
  test.kv_dtype = kv_dtype;
  if (options.math == DType::kBF16) {
    test.product_eps = kBf16Product;
    if (kv_dtype != DType::kF32) test.attention_eps = kBf16Product;
  }
  test.make = [options]() -> std::unique_ptr<Ops> {
    absl::StatusOr<std::unique_ptr<Ops>> ops = MakeCudaOps(CudaDeviceUnderTest(), options);
    EXPECT_OK(ops.status());
    return ops.ok() ? *std::move(ops) : nullptr;
  };
  return test;
}

std::vector<OpsUnderTest> Modes(bool deterministic) {
  CudaOptions f32, bf16;
  f32.deterministic = bf16.deterministic = deterministic;
  bf16.math = DType::kBF16;
  // Small ones, so that the suite also makes them turn over and grow.
  f32.host_ring_bytes = bf16.host_ring_bytes = size_t{1} << 20;
  f32.workspace_bytes = bf16.workspace_bytes = 4096;
  const std::string kind = deterministic ? "deterministic_" : "fast_";
  return {Under(kind + "f32", f32, DType::kF32), Under(kind + "f32_cache_f16", f32, DType::kF16),
          Under(kind + "bf16", bf16, DType::kF32),
          Under(kind + "bf16_cache_bf16", bf16, DType::kBF16),
          Under(kind + "bf16_cache_f16", bf16, DType::kF16)};
}

// Instances only where there is a device: the suite cannot skip by itself.
std::vector<OpsUnderTest> ModesHere(bool deterministic) {
  return CudaDeviceCount() == 0 ? std::vector<OpsUnderTest>() : Modes(deterministic);
}

INSTANTIATE_TEST_SUITE_P(Cuda, OpsConformance, ::testing::ValuesIn(ModesHere(true)),
                         OpsUnderTestName);
INSTANTIATE_TEST_SUITE_P(Cuda, OpsDeterminism, ::testing::ValuesIn(ModesHere(true)),
                         OpsUnderTestName);
INSTANTIATE_TEST_SUITE_P(CudaFast, OpsConformance, ::testing::ValuesIn(ModesHere(false)),
                         OpsUnderTestName);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(OpsConformance);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(OpsDeterminism);

class CudaOpsTest : public CudaTest {};

TEST_F(CudaOpsTest, TheConformanceSuiteRunsInEveryMode) {
  EXPECT_EQ(ModesHere(true).size(), 5u);
  EXPECT_EQ(ModesHere(false).size(), 5u);
}

TEST_F(CudaOpsTest, AnotherDeviceAndAnotherMathAreRefusedByName) {
  CudaOptions options;
  EXPECT_THAT(MakeCudaOps(nullptr, options).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found none")));
  options.device = 99;
  EXPECT_THAT(MakeCudaOps(CudaDeviceUnderTest(), options).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected device cuda:99")));
  options.device = 0;
  options.math = DType::kF16;
  EXPECT_THAT(MakeCudaOps(CudaDeviceUnderTest(), options).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found f16")));
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

TEST_P(CudaLinearTest, ARowHasTheSameBitsInEveryKernelThatADeterministicProductMayTake) {
  if (IsSkipped() || !GetParam()) return;
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

INSTANTIATE_TEST_SUITE_P(Modes, CudaLinearTest, ::testing::Bool());

}  // namespace
}  // namespace ccoe::kernels
