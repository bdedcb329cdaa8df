#include "kernels/cuda/device.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_status.h"
#include "runtime/base/status_macros.h"

namespace ccoe::kernels {
namespace {

constexpr int kLeastMajor = 8;

absl::Status CheckDevice(int index) {
  const int count = CudaDeviceCount();
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
  CCOE_RETURN_IF_ERROR(device->MakeStaging());
  return device;
}

absl::Status CudaDevice::MakeStaging() {
  const std::string what = absl::StrCat(Name(), ": opening");
  absl::MutexLock lock(&copying_);
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaSetDevice(index_), what));
  CCOE_RETURN_IF_ERROR(
      CudaStatus(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), what));
  for (int i = 0; i < 2; ++i) {
    CCOE_RETURN_IF_ERROR(CudaStatus(
        cudaHostAlloc(reinterpret_cast<void**>(&staging_[i]), kStagingBytes, cudaHostAllocDefault),
        what));
    CCOE_RETURN_IF_ERROR(
        CudaStatus(cudaEventCreateWithFlags(&sent_[i], cudaEventDisableTiming), what));
  }
  return absl::OkStatus();
}

// What the CUDA runtime answers to clean-up is of no use: the process or the context is going.
CudaDevice::~CudaDevice() {
  absl::MutexLock lock(&copying_);
  cudaSetDevice(index_);
  for (int i = 0; i < 2; ++i) {
    if (staging_[i] != nullptr) cudaFreeHost(staging_[i]);
    if (sent_[i] != nullptr) cudaEventDestroy(sent_[i]);
  }
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
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

absl::StatusOr<Buffer> CudaDevice::Allocate(size_t size_bytes) {
  if (size_bytes == 0) return Buffer();
  const std::string what = absl::StrCat(Name(), ": allocating ", size_bytes, " bytes");
  void* data = nullptr;
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaSetDevice(index_), what));
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaMalloc(&data, size_bytes), what));
  Buffer buffer(this, data, size_bytes);
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaMemsetAsync(data, 0, size_bytes, stream_), what));
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaStreamSynchronize(stream_), what));
  return buffer;
}

void CudaDevice::Free(void* data, size_t) {
  cudaSetDevice(index_);
  cudaFree(data);  // waits for the device, so no op in flight loses its memory
}

absl::Status CudaDevice::CopyFromHost(const void* host, void* device, size_t size_bytes) {
  const std::string what = absl::StrCat(Name(), ": copying ", size_bytes, " bytes from the host");
  absl::MutexLock lock(&copying_);
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaSetDevice(index_), what));
  int half = 0;
  for (size_t at = 0; at < size_bytes; at += kStagingBytes, half ^= 1) {
    const size_t bytes = std::min(kStagingBytes, size_bytes - at);
    // An event that was never recorded counts as done.
    CCOE_RETURN_IF_ERROR(CudaStatus(cudaEventSynchronize(sent_[half]), what));
    std::memcpy(staging_[half], static_cast<const char*>(host) + at, bytes);
    CCOE_RETURN_IF_ERROR(CudaStatus(cudaMemcpyAsync(static_cast<char*>(device) + at, staging_[half],
                                                    bytes, cudaMemcpyHostToDevice, stream_),
                                    what));
    CCOE_RETURN_IF_ERROR(CudaStatus(cudaEventRecord(sent_[half], stream_), what));
  }
  return CudaStatus(cudaStreamSynchronize(stream_), what);
}

absl::Status CudaDevice::CopyToHost(const void* device, void* host, size_t size_bytes) {
  const std::string what = absl::StrCat(Name(), ": copying ", size_bytes, " bytes to the host");
  absl::MutexLock lock(&copying_);
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaSetDevice(index_), what));
  // Piece n travels while piece n - 1 is copied out of the other half.
  size_t landed = 0;
  int half = 0;
  for (size_t at = 0; landed < size_bytes; half ^= 1) {
    const size_t bytes = std::min(kStagingBytes, size_bytes - at);
    if (bytes > 0) {
      CCOE_RETURN_IF_ERROR(
          CudaStatus(cudaMemcpyAsync(staging_[half], static_cast<const char*>(device) + at, bytes,
                                     cudaMemcpyDeviceToHost, stream_),
                     what));
      CCOE_RETURN_IF_ERROR(CudaStatus(cudaEventRecord(sent_[half], stream_), what));
    }
    if (at > 0) {
      const size_t ready = std::min(kStagingBytes, size_bytes - landed);
      CCOE_RETURN_IF_ERROR(CudaStatus(cudaEventSynchronize(sent_[half ^ 1]), what));
      std::memcpy(static_cast<char*>(host) + landed, staging_[half ^ 1], ready);
      landed += ready;
    }
    at += bytes;
  }
  return absl::OkStatus();
}

}  // namespace ccoe::kernels
