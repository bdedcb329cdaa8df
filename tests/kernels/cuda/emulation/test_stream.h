// SPDX-License-Identifier: Apache-2.0
// A stream of the emulated device and arrays on it, without kernels/cuda's own code between.
#ifndef CCOE_TESTS_KERNELS_CUDA_EMULATION_TEST_STREAM_H_
#define CCOE_TESTS_KERNELS_CUDA_EMULATION_TEST_STREAM_H_

#include <cuda_runtime_api.h>

#include <vector>

#include "kernels/cuda/launch.h"
#include "runtime/base/check.h"

namespace ccoe::emulation {

class TestStream final : public kernels::Launcher {
 public:
  TestStream() { CCOE_CHECK(cudaStreamCreateWithFlags(&stream_, 0) == cudaSuccess); }
  ~TestStream() override { cudaStreamDestroy(stream_); }

  cudaStream_t get() const { return stream_; }
  cudaError_t launched() const { return launched_; }  // by the last Launch

 private:
  void LaunchRaw(const void* kernel, const kernels::LaunchShape& shape, const void* params,
                 size_t params_bytes) override {
    void* arguments[] = {const_cast<void*>(params), &params_bytes};
    launched_ = cudaLaunchKernel(kernel, dim3(shape.grid_x, shape.grid_y, shape.grid_z),
                                 dim3(shape.block), arguments, shape.shared_bytes, stream_);
  }

  cudaStream_t stream_ = nullptr;
  cudaError_t launched_ = cudaSuccess;
};

// Device memory of `count` Ts.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count) {
    CCOE_CHECK(cudaMalloc(reinterpret_cast<void**>(&data_), count * sizeof(T)) == cudaSuccess);
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    TestStream stream;
    Copy(data_, values.data(), cudaMemcpyHostToDevice, &stream);
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  // After what is on the stream.
  std::vector<T> Read(TestStream* stream) const {
    std::vector<T> values(count_);
    Copy(values.data(), data_, cudaMemcpyDeviceToHost, stream);
    return values;
  }

 private:
  void Copy(T* to, const T* from, cudaMemcpyKind kind, TestStream* stream) const {
    CCOE_CHECK(cudaMemcpyAsync(to, from, count_ * sizeof(T), kind, stream->get()) == cudaSuccess);
    CCOE_CHECK(cudaStreamSynchronize(stream->get()) == cudaSuccess);
  }

  T* data_ = nullptr;
  size_t count_;
};

}  // namespace ccoe::emulation

#endif  // CCOE_TESTS_KERNELS_CUDA_EMULATION_TEST_STREAM_H_
