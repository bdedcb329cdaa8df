// SPDX-License-Identifier: Apache-2.0
// A device's memory: allocation and copies. The one place where it shows that host and device
// memory may differ.
#ifndef CCOE_KERNELS_DEVICE_H_
#define CCOE_KERNELS_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ccoe::kernels {

class Device;

// Owned device memory, movable, aligned to 64 bytes at least; freed by its device, which must
// outlive it.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Device* device, void* data, size_t size_bytes)
      : device_(device), data_(data), size_bytes_(size_bytes) {}
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(size_bytes_, other.size_bytes_);
    return *this;
  }
  ~Buffer();

  void* data() const { return data_; }
  float* f32() const { return static_cast<float*>(data_); }
  size_t size_bytes() const { return size_bytes_; }

 private:
  Device* device_ = nullptr;
  void* data_ = nullptr;
  size_t size_bytes_ = 0;
};

// Thread-safe.
class Device {
 public:
  virtual ~Device() = default;

  // "cpu", "cuda:0".
  virtual std::string Name() const = 0;

  // True where kernels read host pointers in place (mapped weights need no upload).
  virtual bool ReadsHostMemory() const = 0;

  // Bytes that Allocate can still give. The host lets a process have more than there is, so the CPU
  // knows no bound.
  virtual int64_t FreeBytes() { return std::numeric_limits<int64_t>::max(); }

  // Memory that reads as zero. On the CPU pages become resident when first written, so a large
  // cache costs only what is used of it. RESOURCE_EXHAUSTED names the size asked for.
  virtual absl::StatusOr<Buffer> Allocate(size_t size_bytes) = 0;

  // Blocking copies between host and device memory.
  virtual absl::Status CopyFromHost(const void* host, void* device, size_t size_bytes) = 0;
  virtual absl::Status CopyToHost(const void* device, void* host, size_t size_bytes) = 0;

 private:
  friend class Buffer;
  virtual void Free(void* data, size_t size_bytes) = 0;
};

inline Buffer::~Buffer() {
  if (data_ != nullptr) device_->Free(data_, size_bytes_);
}

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_DEVICE_H_
