// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/cuda/emulation/test_kernels.h"
#include "tests/kernels/cuda/emulation/test_stream.h"

namespace ccoe::emulation {
namespace {

kernels::LaunchShape OneWarp() {
  kernels::LaunchShape shape;
  shape.block = 32;
  shape.shared_bytes = 128;
  return shape;
}

// 32 pinned floats.
class RuntimeTest : public ::testing::Test {
 protected:
  RuntimeTest() { cudaHostAlloc(reinterpret_cast<void**>(&pinned_), 128, cudaHostAllocDefault); }
  ~RuntimeTest() override { cudaFreeHost(pinned_); }

  void Fill(float value) { std::fill_n(pinned_, 32, value); }

  float* pinned_ = nullptr;
};

TEST_F(RuntimeTest, NewMemoryIsNotANumber) {
  TestStream stream;
  for (float value : DeviceArray<float>(33).Read(&stream)) EXPECT_TRUE(std::isnan(value));
}

TEST_F(RuntimeTest, WorkIsDoneWhenItIsWaitedForAndReadsPinnedMemoryThen) {
  TestStream stream;
  const DeviceArray<float> array(32);
  Fill(1.0f);
  ASSERT_EQ(cudaMemcpyAsync(array.data(), pinned_, 128, cudaMemcpyHostToDevice, stream.get()),
            cudaSuccess);
  Fill(2.0f);  // too early: the copy may not have left
  EXPECT_EQ(array.Read(&stream)[0], 2.0f);
  // Pageable memory is free at once.
  std::vector<float> pageable(32, 3.0f);
  ASSERT_EQ(
      cudaMemcpyAsync(array.data(), pageable.data(), 128, cudaMemcpyHostToDevice, stream.get()),
      cudaSuccess);
  pageable.assign(32, 4.0f);
  EXPECT_EQ(array.Read(&stream)[0], 3.0f);
}

TEST_F(RuntimeTest, AnEventWaitsForTheWorkBeforeItAlone) {
  TestStream stream;
  const DeviceArray<float> array(32);
  cudaEvent_t event = nullptr;
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  EXPECT_EQ(cudaEventSynchronize(event), cudaSuccess);  // never recorded
  Fill(1.0f);
  cudaMemcpyAsync(array.data(), pinned_, 128, cudaMemcpyHostToDevice, stream.get());
  cudaEventRecord(event, stream.get());
  cudaMemcpyAsync(array.data() + 16, pinned_, 64, cudaMemcpyHostToDevice, stream.get());
  cudaEventSynchronize(event);
  Fill(2.0f);
  const std::vector<float> found = array.Read(&stream);
  EXPECT_EQ(found[0], 1.0f);
  EXPECT_EQ(found[16], 2.0f);
  cudaEventDestroy(event);
}

TEST_F(RuntimeTest, AStreamWaitsForAnothersEvent) {
  TestStream first, second;
  const DeviceArray<float> from(32), to(32);
  cudaEvent_t event = nullptr;
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  Fill(5.0f);
  cudaMemcpyAsync(from.data(), pinned_, 128, cudaMemcpyHostToDevice, first.get());
  cudaEventRecord(event, first.get());
  cudaStreamWaitEvent(second.get(), event, 0);
  cudaMemcpyAsync(to.data(), from.data(), 128, cudaMemcpyDeviceToDevice, second.get());
  EXPECT_EQ(to.Read(&second)[31], 5.0f);
  cudaEventDestroy(event);
}

TEST_F(RuntimeTest, ACapturedPieceRunsWhenItsGraphIsLaunchedWithTheParametersOfItsLaunches) {
  TestStream stream;
  const DeviceArray<float> in(32), out(32);
  ASSERT_EQ(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal), cudaSuccess);
  LaunchTestKernel(&stream, Kernel::kRotate, OneWarp(), {in.data(), nullptr, out.data(), 32, 1});
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream.get(), &graph), cudaSuccess);
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  cudaGraphDestroy(graph);
  EXPECT_TRUE(std::isnan(out.Read(&stream)[0]));
  for (float value : {1.0f, 2.0f}) {
    Fill(value);
    cudaMemcpyAsync(in.data(), pinned_, 128, cudaMemcpyHostToDevice, stream.get());
    ASSERT_EQ(cudaGraphLaunch(exec, stream.get()), cudaSuccess);
    EXPECT_EQ(out.Read(&stream)[7], value);
  }
  cudaGraphExecDestroy(exec);
}

TEST_F(RuntimeTest, WaitingOrAllocatingBreaksACapture) {
  TestStream stream;
  ASSERT_EQ(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal), cudaSuccess);
  void* data = nullptr;
  EXPECT_EQ(cudaMalloc(&data, 16), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamSynchronize(stream.get()), cudaErrorStreamCaptureUnsupported);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream.get(), &graph), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(cudaGetLastError(), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(RuntimeTest, LaunchesThatADeviceRefusesAreRefused) {
  TestStream stream;
  const DeviceArray<float> in(32), out(32);
  const TestParams params{in.data(), nullptr, out.data(), 32, 1};
  kernels::LaunchShape shape = OneWarp();
  shape.block = 1025;
  LaunchTestKernel(&stream, Kernel::kRotate, shape, params);
  EXPECT_EQ(stream.launched(), cudaErrorInvalidConfiguration);
  shape = OneWarp();
  shape.shared_bytes = (48 << 10) + 1;  // without having been allowed
  LaunchTestKernel(&stream, Kernel::kRotate, shape, params);
  EXPECT_EQ(stream.launched(), cudaErrorInvalidValue);
}

using RuntimeDeathTest = RuntimeTest;

TEST_F(RuntimeDeathTest, HostMemoryIsNotForKernels) {
  TestStream stream;
  const DeviceArray<float> out(32);
  const float local[32] = {};
  const auto launch = [&](const void* in) {
    LaunchTestKernel(&stream, Kernel::kRotate, OneWarp(), {in, nullptr, out.data(), 32, 1});
  };
  EXPECT_DEATH(launch(local), "Rotate.*: host memory at byte 0 of its parameters");
  EXPECT_DEATH(launch(pinned_), "host memory at byte 0");
}

TEST_F(RuntimeDeathTest, FreedMemoryAndStraySingleBytesAreFound) {
  TestStream stream;
  const DeviceArray<float> out(32);
  void* freed = nullptr;
  cudaMalloc(&freed, 128);
  cudaFree(freed);
  EXPECT_DEATH(
      {
        LaunchTestKernel(&stream, Kernel::kRotate, OneWarp(), {freed, nullptr, out.data(), 32, 1});
        cudaStreamSynchronize(stream.get());
      },
      "memory that is not there(.|\n)*Rotate");
  EXPECT_DEATH(
      {
        void* odd = nullptr;
        cudaMalloc(&odd, 13);
        static_cast<char*>(odd)[13] = 1;
        cudaFree(odd);
      },
      "bytes before or behind a block of memory were written");
}

}  // namespace
}  // namespace ccoe::emulation
