// SPDX-License-Identifier: Apache-2.0
#include <memory>

#include "gtest/gtest.h"
#include "kernels/cuda/cuda_ops.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::kernels {
namespace {

using ::testing::HasSubstr;

TEST(CudaStubTest, WithoutADeviceTheFactoriesSayWhyThereIsNone) {
  if (CudaDeviceCount() > 0) GTEST_SKIP() << "this machine has a CUDA device";
  const absl::Status status = OpenCudaDevice(0).status();
  // Which of the two depends on how this was built.
  EXPECT_TRUE(absl::IsUnimplemented(status) || absl::IsNotFound(status)) << status;
  EXPECT_FALSE(MakeCudaOps(nullptr, {}).ok());
  CudaOptions options;
  EXPECT_FALSE(FitCudaOptions({}, &options).ok());
  if (!absl::IsUnimplemented(status)) GTEST_SKIP() << "built with CUDA: the stub is not in it";
  EXPECT_THAT(std::string(status.message()), HasSubstr("build with --config=cuda"));
}

}  // namespace
}  // namespace ccoe::kernels
