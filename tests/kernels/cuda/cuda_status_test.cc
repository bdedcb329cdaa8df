// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_status.h"

#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::kernels {
namespace {

using ::ccoe::testing::StatusIs;
using ::testing::HasSubstr;

TEST(CudaStatusTest, SuccessIsOkAndErrorsSayWhatFailedAndHowCudaCallsIt) {
  EXPECT_OK(CudaStatus(cudaSuccess, "copying"));
  EXPECT_THAT(CudaStatus(cudaErrorInvalidValue, "copying"),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("copying: cudaErrorInvalidValue")));
}

TEST(CudaStatusTest, MemoryThatIsNotThereIsAnExhaustedResource) {
  EXPECT_THAT(
      CudaStatus(cudaErrorMemoryAllocation, "allocating"),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("cudaErrorMemoryAllocation")));
}

}  // namespace
}  // namespace ccoe::kernels
