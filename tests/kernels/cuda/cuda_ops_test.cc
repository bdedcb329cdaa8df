#include "kernels/cuda/cuda_ops.h"

#include <memory>
#include <string>
#include <vector>

#include "tests/kernels/cuda/cuda_under_test.h"
#include "tests/kernels/ops_conformance.h"
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

}  // namespace
}  // namespace ccoe::kernels
