// What the ops need to know of a CudaDevice beyond kernels::Device.
#ifndef CCOE_KERNELS_CUDA_DEVICE_H_
#define CCOE_KERNELS_CUDA_DEVICE_H_

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "kernels/device.h"

namespace ccoe::kernels {

// One GPU's memory. Copies go through two pinned halves of a staging buffer, one being filled by
// the host while the other travels; callers of copies take turns. Thread-safe.
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
  static constexpr size_t kStagingBytes = size_t{4} << 20;  // of one half

  explicit CudaDevice(int index) : index_(index) {}
  void Free(void* data, size_t size_bytes) override;
  absl::Status MakeStaging();

  const int index_;
  absl::Mutex copying_;
  cudaStream_t stream_ = nullptr;  // of copies and zeroing
  char* staging_[2] ABSL_GUARDED_BY(copying_) = {nullptr, nullptr};
  cudaEvent_t sent_[2] ABSL_GUARDED_BY(copying_) = {nullptr, nullptr};
};

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_DEVICE_H_
