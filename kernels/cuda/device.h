// SPDX-License-Identifier: Apache-2.0
// What the ops need to know of a CudaDevice beyond kernels::Device.
#ifndef CCOE_KERNELS_CUDA_DEVICE_H_
#define CCOE_KERNELS_CUDA_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "kernels/cuda/copy_lane.h"
#include "kernels/device.h"

namespace ccoe::kernels {

// One GPU's memory. Thread-safe: so many copies are under way side by side as there are lanes, so
// that files are read while others travel; more callers take turns.
class CudaDevice final : public Device {
 public:
  static absl::StatusOr<std::unique_ptr<CudaDevice>> Open(int index);
  ~CudaDevice() override;

  std::string Name() const override;
  bool ReadsHostMemory() const override { return false; }
  int64_t FreeBytes() override;
  absl::StatusOr<Buffer> Allocate(size_t size_bytes) override;
  absl::Status CopyFromHost(const void* host, void* device, size_t size_bytes) override;
  absl::Status CopyToHost(const void* device, void* host, size_t size_bytes) override;

  int index() const { return index_; }

 private:
  static constexpr int kLanes = 4;

  explicit CudaDevice(int index) : index_(index) {}
  void Free(void* data, size_t size_bytes) override;
  // Runs `copy` with a lane of its own, on this device.
  absl::Status WithLane(absl::string_view what, absl::FunctionRef<absl::Status(CopyLane&)> copy)
      ABSL_LOCKS_EXCLUDED(mutex_);

  const int index_;
  absl::Mutex mutex_;
  std::vector<std::unique_ptr<CopyLane>> idle_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_DEVICE_H_
