// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/device.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/serving_thread.h"
#include "runtime/base/status_macros.h"

namespace ccoe::kernels {
namespace {

constexpr int kLeastMajor = 8;

absl::Status CheckDevice(int index) {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    cudaGetLastError();
    return absl::NotFoundError(
        absl::StrCat("cuda: device ", index,
                     ": no device of this machine can be used: ", cudaGetErrorString(error)));
  }
  if (index < 0 || index >= count) {
    return absl::NotFoundError(absl::StrCat("cuda: device ", index, ": expected one of the ", count,
                                            " devices of this machine"));
  }
  int major = 0, minor = 0;
  CCOE_RETURN_IF_ERROR(
      CudaStatus(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index),
                 "cuda: reading the compute capability"));
  CCOE_RETURN_IF_ERROR(
      CudaStatus(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index),
                 "cuda: reading the compute capability"));
  if (major >= kLeastMajor) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "cuda:", index, ": expected compute capability 8.0 or newer, found ", major, ".", minor));
}

}  // namespace

int CudaDeviceCount() {
  int count = 0;
  // No driver and no device are answers here, not errors.
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return count;
}

absl::StatusOr<std::unique_ptr<Device>> OpenCudaDevice(int index) {
  CCOE_ASSIGN_OR_RETURN(std::unique_ptr<CudaDevice> device, CudaDevice::Open(index));
  return std::unique_ptr<Device>(std::move(device));
}

absl::StatusOr<std::unique_ptr<CudaDevice>> CudaDevice::Open(int index) {
  CCOE_RETURN_IF_ERROR(CheckDevice(index));
  auto device = std::unique_ptr<CudaDevice>(new CudaDevice(index));
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaSetDevice(index), absl::StrCat(device->Name(), ": opening")));
  absl::MutexLock lock(&device->mutex_);
  for (int i = 0; i < kLanes; ++i) {
    CCOE_ASSIGN_OR_RETURN(std::unique_ptr<CopyLane> lane, CopyLane::Create());
    device->idle_.push_back(std::move(lane));
  }
  return device;
}

CudaDevice::~CudaDevice() {
  cudaSetDevice(index_);
  absl::MutexLock lock(&mutex_);
  idle_.clear();
}

std::string CudaDevice::Name() const { return absl::StrCat("cuda:", index_); }

int64_t CudaDevice::FreeBytes() {
  size_t free = 0, total = 0;
  if (cudaSetDevice(index_) != cudaSuccess || cudaMemGetInfo(&free, &total) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return static_cast<int64_t>(free);
}

absl::Status CudaDevice::WithLane(absl::string_view what,
                                  absl::FunctionRef<absl::Status(CopyLane&)> copy) {
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaSetDevice(index_), what));
  std::unique_ptr<CopyLane> lane;
  {
    const auto one_idle = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return !idle_.empty(); };
    absl::MutexLock lock(&mutex_, absl::Condition(&one_idle));
    lane = std::move(idle_.back());
    idle_.pop_back();
  }
  const absl::Status status = copy(*lane);
  absl::MutexLock lock(&mutex_);
  idle_.push_back(std::move(lane));
  return status;
}

absl::StatusOr<Buffer> CudaDevice::Allocate(size_t size_bytes) {
  if (size_bytes == 0) return Buffer();
  NoteAllocation();
  const std::string what = absl::StrCat(Name(), ": allocating ", size_bytes, " bytes");
  void* data = nullptr;
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaSetDevice(index_), what));
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaMalloc(&data, size_bytes), what));
  Buffer buffer(this, data, size_bytes);
  CCOE_RETURN_IF_ERROR(
      WithLane(what, [&](CopyLane& lane) { return lane.Zero(data, size_bytes, what); }));
  return buffer;
}

void CudaDevice::Free(void* data, size_t) {
  cudaSetDevice(index_);
  cudaFree(data);  // waits for the device, so no op in flight loses its memory
}

absl::Status CudaDevice::CopyFromHost(const void* host, void* device, size_t size_bytes) {
  const std::string what = absl::StrCat(Name(), ": copying ", size_bytes, " bytes from the host");
  return WithLane(what,
                  [&](CopyLane& lane) { return lane.FromHost(host, device, size_bytes, what); });
}

absl::Status CudaDevice::CopyToHost(const void* device, void* host, size_t size_bytes) {
  const std::string what = absl::StrCat(Name(), ": copying ", size_bytes, " bytes to the host");
  return WithLane(what,
                  [&](CopyLane& lane) { return lane.ToHost(device, host, size_bytes, what); });
}

}  // namespace ccoe::kernels
