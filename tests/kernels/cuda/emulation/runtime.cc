// SPDX-License-Identifier: Apache-2.0
// The CUDA runtime over an emulated device: errors, the device, memory and copies.
#include <cuda_runtime_api.h>

#include <cstring>
#include <vector>

#include "tests/kernels/cuda/emulation/report.h"
#include "tests/kernels/cuda/emulation/runtime_state.h"

namespace ccoe::emulation {
namespace {

constexpr int kMultiprocessors = 8;

void CheckAlive(const void* data, size_t bytes) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  if (!TheRuntime().device.Holds(data, bytes)) Fault("a copy meets memory that was freed");
}

}  // namespace
}  // namespace ccoe::emulation

using namespace ccoe::emulation;  // NOLINT: this file is the global functions of CUDA

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
  }
  return "an error that the emulation does not know";
}
const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }

// There is neither.
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return Result(cudaErrorInvalidDevice);
  const MadeUpDevice& made_up = TheDevice();
  *properties = {"an emulated GPU", made_up.major,       made_up.minor, kMultiprocessors,
                 /*l2CacheSize=*/0, made_up.shared_bytes};
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  return Result(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return Result(cudaErrorInvalidDevice);
  const MadeUpDevice& made_up = TheDevice();
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = kMultiprocessors;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = made_up.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = made_up.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(made_up.shared_bytes);
      break;
    default:
      return Result(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  *free = runtime.device.free_bytes();
  *total = runtime.device.capacity_bytes();
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, size_t bytes) {
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  if (BreaksCapture(runtime)) return Result(cudaErrorStreamCaptureUnsupported);
  *data = runtime.device.Allocate(bytes);
  return Result(*data == nullptr && bytes > 0 ? cudaErrorMemoryAllocation : cudaSuccess);
}
cudaError_t cudaFree(void* data) {
  if (data == nullptr) return cudaSuccess;
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  if (BreaksCapture(runtime)) return Result(cudaErrorStreamCaptureUnsupported);
  for (cudaStream_t stream : runtime.streams) RunAll(stream);
  return Result(runtime.device.Free(data) ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned) {
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  if (BreaksCapture(runtime)) return Result(cudaErrorStreamCaptureUnsupported);
  *data = runtime.pinned.Allocate(bytes);
  return Result(*data == nullptr && bytes > 0 ? cudaErrorMemoryAllocation : cudaSuccess);
}
cudaError_t cudaFreeHost(void* data) {
  if (data == nullptr) return cudaSuccess;
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  if (BreaksCapture(runtime)) return Result(cudaErrorStreamCaptureUnsupported);
  return Result(runtime.pinned.Free(data) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  const bool to_host = kind == cudaMemcpyDeviceToHost, from_host = kind == cudaMemcpyHostToDevice;
  if ((!to_host && !runtime.device.Holds(to, bytes)) ||
      (!from_host && !runtime.device.Holds(from, bytes))) {
    return Result(cudaErrorInvalidValue);
  }
  const auto copy = [=] {
    if (!to_host) CheckAlive(to, bytes);
    if (!from_host) CheckAlive(from, bytes);
    std::memcpy(to, from, bytes);
  };
  // Of pageable memory CUDA takes a copy before it returns, and fills it before it returns.
  if (from_host && !runtime.pinned.IsOfRange(from)) {
    const auto* begin = static_cast<const char*>(from);
    return Put(stream, [to, bytes, taken = std::vector<char>(begin, begin + bytes)] {
      CheckAlive(to, bytes);
      std::memcpy(to, taken.data(), bytes);
    });
  }
  Put(stream, copy);
  if (to_host && !runtime.pinned.IsOfRange(to)) RunAll(stream);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream) {
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  if (!runtime.device.Holds(data, bytes)) return Result(cudaErrorInvalidValue);
  return Put(stream, [=] {
    CheckAlive(data, bytes);
    std::memset(data, value, bytes);
  });
}
