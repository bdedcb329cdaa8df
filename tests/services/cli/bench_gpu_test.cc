#include "services/cli/bench_gpu.h"

#include "gmock/gmock.h"
#include "kernels/cuda/cuda_ops.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::cli {
namespace {

using ::ccoe::testing::StatusIs;

TEST(BenchGpuTest, TheCpuIsNoGpu) {
  EXPECT_THAT(BenchGpu({}), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(BenchGpuTest, AGpuThatIsNotThereIsNamed) {
  if (kernels::CudaDeviceCount() > 0) GTEST_SKIP() << "there is one";
  BenchGpuOptions options;
  options.model.compute.device = "cuda:1";
  const absl::Status status = BenchGpu(options);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("device cuda:1"));
}

}  // namespace
}  // namespace ccoe::cli
