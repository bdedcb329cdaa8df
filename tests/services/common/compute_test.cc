// SPDX-License-Identifier: Apache-2.0
#include "services/common/compute.h"

#include <stdlib.h>

#include "gmock/gmock.h"
#include "kernels/cuda/cuda_ops.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::services {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

TEST(ComputeTest, TheCpuReadsWeightsInPlace) {
  ThreadTeam team(1);
  ASSERT_OK_AND_ASSIGN(const auto compute, Compute::Create({}, &team));
  EXPECT_EQ(compute->device().Name(), "cpu");
  EXPECT_FALSE(compute->weights().uploads());
  EXPECT_EQ(compute->kv_dtype(), kernels::DType::kF32);
  ASSERT_OK_AND_ASSIGN(const auto ops, compute->MakeOps());
  EXPECT_EQ(&ops->device(), &compute->device());
  ASSERT_OK_AND_ASSIGN(const auto shaped, compute->MakeOps({}));
  EXPECT_EQ(&shaped->device(), &compute->device());
  ASSERT_OK_AND_ASSIGN(const int64_t bytes, compute->OpsBytes({}));
  EXPECT_EQ(bytes, 0);
}

TEST(ComputeTest, AnUnknownDeviceSaysWhatThereIs) {
  ThreadTeam team(1);
  for (const char* name : {"", "gpu", "cuda:", "cuda:-1", "cuda:1x", "cuda:99999999999", "CPU"}) {
    EXPECT_THAT(Compute::Create({name}, &team).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected cpu, cuda")))
        << name;
  }
}

TEST(ComputeTest, AGpuThatIsNotThereIsAnErrorThatNamesIt) {
  if (kernels::CudaDeviceCount() > 0) GTEST_SKIP() << "there is one";
  ThreadTeam team(1);
  const absl::Status status = Compute::Create({"cuda:0"}, &team).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("device cuda:0"));
}

TEST(ComputeTest, AGpuIsOpenedWithAsManyHardwareQueuesAsThereAreUnlessToldOtherwise) {
  ThreadTeam team(1);
  for (const char* told : {"", "7"}) {
    unsetenv("CUDA_DEVICE_MAX_CONNECTIONS");
    if (*told != '\0') setenv("CUDA_DEVICE_MAX_CONNECTIONS", told, 1);
    Compute::Create({"cuda:0"}, &team).status().IgnoreError();
    EXPECT_STREQ(getenv("CUDA_DEVICE_MAX_CONNECTIONS"), *told == '\0' ? "32" : told);
  }
}

TEST(ComputeTest, NumericsReachTheOpsOfAGpuAndAreRefusedOnTheCpu) {
  ComputeOptions options;
  options.math = kernels::DType::kBF16;
  EXPECT_TRUE(CudaOptionsOf(0, options).deterministic);
  options.numerics = Numerics::kFast;
  const kernels::CudaOptions fast = CudaOptionsOf(1, options);
  EXPECT_FALSE(fast.deterministic);
  EXPECT_EQ(fast.device, 1);
  EXPECT_EQ(fast.math, kernels::DType::kBF16);
  ThreadTeam team(1);
  EXPECT_THAT(Compute::Create(options, &team).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("numerics")));
}

}  // namespace
}  // namespace ccoe::services
