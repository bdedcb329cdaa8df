// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_ops.h"

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
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
  test.slow = SlowDevice();
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

enum class Suite { kConformance, kDeterminism, kFast };

// Modes that differ in nothing a suite looks at are left out: a GPU's time is short.
std::vector<OpsUnderTest> Modes(Suite suite) {
  CudaOptions f32, bf16;
  f32.deterministic = bf16.deterministic = suite != Suite::kFast;
  bf16.math = DType::kBF16;
  // Small ones, so that the suite also makes them turn over and grow.
  f32.host_ring_bytes = bf16.host_ring_bytes = size_t{1} << 20;
  f32.workspace_bytes = bf16.workspace_bytes = 4096;
  std::vector<OpsUnderTest> modes = {Under("f32", f32, DType::kF32),
                                     Under("bf16_cache_bf16", bf16, DType::kBF16)};
  if (suite == Suite::kFast) return modes;
  modes.push_back(Under("bf16_cache_f16", bf16, DType::kF16));
  if (suite == Suite::kDeterminism) return modes;
  modes.push_back(Under("f32_cache_f16", f32, DType::kF16));
  modes.push_back(Under("bf16_cache_f32", bf16, DType::kF32));
  return modes;
}

// Instances only where there is a device: the suite cannot skip by itself.
std::vector<OpsUnderTest> ModesHere(Suite suite) {
  if (CudaDeviceCount() == 0 || (suite == Suite::kFast && !HasCublasLt())) return {};
  return Modes(suite);
}

INSTANTIATE_TEST_SUITE_P(Cuda, OpsConformance, ::testing::ValuesIn(ModesHere(Suite::kConformance)),
                         OpsUnderTestName);
INSTANTIATE_TEST_SUITE_P(Cuda, OpsDeterminism, ::testing::ValuesIn(ModesHere(Suite::kDeterminism)),
                         OpsUnderTestName);
INSTANTIATE_TEST_SUITE_P(CudaFast, OpsConformance, ::testing::ValuesIn(ModesHere(Suite::kFast)),
                         OpsUnderTestName);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(OpsConformance);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(OpsDeterminism);

class CudaOpsTest : public CudaTest {};

TEST_F(CudaOpsTest, TheConformanceSuiteRunsInEveryMode) {
  EXPECT_EQ(ModesHere(Suite::kConformance).size(), 5u);
  EXPECT_EQ(ModesHere(Suite::kDeterminism).size(), 3u);
  EXPECT_EQ(ModesHere(Suite::kFast).size(), HasCublasLt() ? 2u : 0u);
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

TEST_F(CudaOpsTest, TheNumericsClassNamesArchitectureMathAndMode) {
  CudaOptions options;
  const auto class_of = [&] {
    absl::StatusOr<std::unique_ptr<Ops>> ops = MakeCudaOps(CudaDeviceUnderTest(), options);
    EXPECT_OK(ops.status());
    return ops.ok() ? (*ops)->NumericsClass() : std::string();
  };
  const std::string f32 = class_of();
  EXPECT_THAT(f32, ::testing::MatchesRegex("cuda/sm[0-9]+/k1/f32/deterministic"));
  EXPECT_EQ(class_of(), f32);
  options.math = DType::kBF16;
  EXPECT_THAT(class_of(), ::testing::EndsWith("/k1/bf16/deterministic"));
  options.deterministic = false;
  EXPECT_THAT(class_of(), ::testing::EndsWith("/k1/bf16/fast"));
}

}  // namespace
}  // namespace ccoe::kernels
