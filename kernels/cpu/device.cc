// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/serving_thread.h"

namespace ccoe::kernels {
namespace {

constexpr size_t kHugePageBytes = size_t{2} << 20;

class HostDevice final : public Device {
 public:
  std::string Name() const override { return "cpu"; }
  bool ReadsHostMemory() const override { return true; }

  absl::StatusOr<Buffer> Allocate(size_t size_bytes) override {
    if (size_bytes == 0) return Buffer();
    NoteAllocation();
    void* data = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) {
      return absl::ResourceExhaustedError(absl::StrCat("cpu device: cannot allocate ", size_bytes,
                                                       " bytes: ", std::strerror(errno)));
    }
    // Fewer TLB misses; a hint, so a refusal does not matter.
    if (size_bytes >= kHugePageBytes) madvise(data, size_bytes, MADV_HUGEPAGE);
    return Buffer(this, data, size_bytes);
  }

  absl::Status CopyFromHost(const void* host, void* device, size_t size_bytes) override {
    if (size_bytes > 0) std::memmove(device, host, size_bytes);
    return absl::OkStatus();
  }

  absl::Status CopyToHost(const void* device, void* host, size_t size_bytes) override {
    if (size_bytes > 0) std::memmove(host, device, size_bytes);
    return absl::OkStatus();
  }

 private:
  void Free(void* data, size_t size_bytes) override { munmap(data, size_bytes); }
};

}  // namespace

Device& CpuDevice() {
  static HostDevice* const device = new HostDevice;
  return *device;
}

}  // namespace ccoe::kernels
