// SPDX-License-Identifier: Apache-2.0
// The device that CUDA tests share, and the skip where there is none.
#ifndef CCOE_TESTS_KERNELS_CUDA_CUDA_UNDER_TEST_H_
#define CCOE_TESTS_KERNELS_CUDA_CUDA_UNDER_TEST_H_

#include <cstdlib>
#include <memory>

#include "gtest/gtest.h"
#include "kernels/cuda/cublaslt_library.h"
#include "kernels/cuda/cuda_ops.h"
#include "tests/testing/status_matchers.h"

namespace ccoe::kernels {

// Opened once and never closed: tests hold buffers of it in any order.
inline Device* CudaDeviceUnderTest() {
  static Device* const device = [] {
    absl::StatusOr<std::unique_ptr<Device>> opened = OpenCudaDevice(0);
    EXPECT_OK(opened.status());
    return opened.ok() ? opened->release() : nullptr;
  }();
  return device;
}

// Set by whoever runs the tests over an emulated device: OpsUnderTest::slow.
inline bool SlowDevice() { return std::getenv("CCOE_SLOW_DEVICE") != nullptr; }

// cuBLASLt is on this machine; the emulation has its own. Where it is not, BlasTest says so.
inline bool HasCublasLt() { return OpenCublasLt().ok(); }

// A test of a GPU; skipped, and reported as such, where there is none.
class CudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (CudaDeviceCount() == 0) GTEST_SKIP() << "this machine has no CUDA device";
    ASSERT_NE(CudaDeviceUnderTest(), nullptr);
  }
};

}  // namespace ccoe::kernels

#endif  // CCOE_TESTS_KERNELS_CUDA_CUDA_UNDER_TEST_H_
