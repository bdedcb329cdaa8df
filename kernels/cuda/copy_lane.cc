// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/copy_lane.h"

#include <algorithm>
#include <cstring>

#include "kernels/cuda/cuda_status.h"
#include "runtime/base/status_macros.h"

namespace ccoe::kernels {

absl::StatusOr<std::unique_ptr<CopyLane>> CopyLane::Create() {
  constexpr absl::string_view kWhat = "cuda: opening a way for copies";
  std::unique_ptr<CopyLane> lane(new CopyLane());
  CCOE_RETURN_IF_ERROR(
      CudaStatus(cudaStreamCreateWithFlags(&lane->stream_, cudaStreamNonBlocking), kWhat));
  for (int i = 0; i < 2; ++i) {
    CCOE_RETURN_IF_ERROR(CudaStatus(cudaHostAlloc(reinterpret_cast<void**>(&lane->staging_[i]),
                                                  kStagingBytes, cudaHostAllocDefault),
                                    kWhat));
    CCOE_RETURN_IF_ERROR(
        CudaStatus(cudaEventCreateWithFlags(&lane->sent_[i], cudaEventDisableTiming), kWhat));
  }
  return lane;
}

// What the CUDA runtime answers to clean-up is of no use: the process or the context is going.
CopyLane::~CopyLane() {
  for (int i = 0; i < 2; ++i) {
    if (staging_[i] != nullptr) cudaFreeHost(staging_[i]);
    if (sent_[i] != nullptr) cudaEventDestroy(sent_[i]);
  }
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

absl::Status CopyLane::FromHost(const void* host, void* device, size_t size_bytes,
                                absl::string_view what) {
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

absl::Status CopyLane::ToHost(const void* device, void* host, size_t size_bytes,
                              absl::string_view what) {
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

absl::Status CopyLane::Zero(void* device, size_t size_bytes, absl::string_view what) {
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaMemsetAsync(device, 0, size_bytes, stream_), what));
  return CudaStatus(cudaStreamSynchronize(stream_), what);
}

}  // namespace ccoe::kernels
