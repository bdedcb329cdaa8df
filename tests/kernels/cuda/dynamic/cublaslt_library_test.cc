// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cublaslt_library.h"

#include <cublasLt.h>

#include <string>

#include "tests/testing/status_matchers.h"

namespace ccoe::kernels {
namespace {

using ::testing::HasSubstr;

TEST(CublasLtLibraryTest, ItsFunctionsAreTheLibrarysOrSayThatItIsMissing) {
  const std::string text = cublasLtGetStatusString(CUBLAS_STATUS_NOT_SUPPORTED);
  if (OpenCublasLt().ok()) {
    EXPECT_THAT(text, HasSubstr("functionality is not supported"));
    return;
  }
  EXPECT_THAT(text, HasSubstr("cannot be used"));
  cublasLtHandle_t handle = nullptr;
  EXPECT_EQ(cublasLtCreate(&handle), CUBLAS_STATUS_NOT_INITIALIZED);
}

}  // namespace
}  // namespace ccoe::kernels
