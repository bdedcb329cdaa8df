// SPDX-License-Identifier: Apache-2.0
// A way between host memory and one GPU: a stream and two pinned halves of a staging buffer, one
// being filled or emptied by the host while the other travels.
#ifndef CCOE_KERNELS_CUDA_COPY_LANE_H_
#define CCOE_KERNELS_CUDA_COPY_LANE_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ccoe::kernels {

// Not thread-safe; several lanes of a device work side by side.
class CopyLane {
 public:
  // On the thread's current device.
  static absl::StatusOr<std::unique_ptr<CopyLane>> Create();
  ~CopyLane();

  // Return when the copy is complete. `what` begins the message of an error.
  absl::Status FromHost(const void* host, void* device, size_t size_bytes, absl::string_view what);
  absl::Status ToHost(const void* device, void* host, size_t size_bytes, absl::string_view what);
  absl::Status Zero(void* device, size_t size_bytes, absl::string_view what);

 private:
  static constexpr size_t kStagingBytes = size_t{4} << 20;  // of one half

  CopyLane() = default;

  cudaStream_t stream_ = nullptr;
  char* staging_[2] = {nullptr, nullptr};
  cudaEvent_t sent_[2] = {nullptr, nullptr};  // the half's last copy is complete
};

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_COPY_LANE_H_
