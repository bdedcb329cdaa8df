// SPDX-License-Identifier: Apache-2.0
// A device whose memory the host cannot read, made of host memory: its addresses are tagged so that
// whoever follows one without the device's ops or copies crashes, and its ops abort on an operand
// that is host memory. What runs over it mixes the two up nowhere. Waits, copies and allocations
// within Ops::RunCaptured abort too, and so do allocations of threads that serve.
#ifndef CCOE_TESTS_TESTING_TAGGED_DEVICE_H_
#define CCOE_TESTS_TESTING_TAGGED_DEVICE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "kernels/device.h"
#include "kernels/ops.h"
#include "runtime/base/parallel.h"

namespace ccoe::testing {

// Thread-safe.
class TaggedDevice final : public kernels::Device {
 public:
  // At most `capacity_bytes` at once, by default without a bound.
  explicit TaggedDevice(int64_t capacity_bytes = int64_t{1} << 62) : free_bytes_(capacity_bytes) {}

  std::string Name() const override { return "tagged:0"; }
  bool ReadsHostMemory() const override { return false; }
  int64_t FreeBytes() override { return free_bytes_.load(); }
  absl::StatusOr<kernels::Buffer> Allocate(size_t size_bytes) override;
  absl::Status CopyFromHost(const void* host, void* device, size_t size_bytes) override;
  absl::Status CopyToHost(const void* device, void* host, size_t size_bytes) override;

  // The least that was free since WatchLowestFree.
  void WatchLowestFree() { lowest_free_.store(free_bytes_.load()); }
  int64_t lowest_free() const { return lowest_free_.load(); }

  // Calls of RunCaptured of its ops.
  int64_t captured_steps() const { return captured_steps_.load(); }
  void CountCapturedStep() { ++captured_steps_; }

  // Taken now, each buffer rounded up to 512 bytes as a GPU would.
  int64_t taken_bytes() const { return taken_bytes_.load(); }

  int64_t allocations() const { return allocations_.load(); }

  // Allocations abort from now on, whoever asks; or no longer.
  void ForbidAllocation(bool forbidden = true) { forbidden_.store(forbidden); }

  // The device computes no more: copies and waiting for its ops give `error`.
  void FailFromNowOn(absl::Status error) {
    absl::MutexLock lock(&mutex_);
    error_ = std::move(error);
  }
  absl::Status error() const {
    absl::MutexLock lock(&mutex_);
    return error_;
  }

  // Called before every copy: what it returns, if an error, is the copy's. It may block. Null:
  // none.
  void SetCopyHook(std::function<absl::Status()> hook) {
    absl::MutexLock lock(&mutex_);
    copy_hook_ = std::move(hook);
  }

  // Bytes that CopyFromHost and CopyToHost were asked to copy.
  int64_t uploaded_bytes() const { return uploaded_bytes_.load(); }
  int64_t downloaded_bytes() const { return downloaded_bytes_.load(); }

 private:
  void Free(void* data, size_t size_bytes) override;
  absl::Status BeforeCopy();

  mutable absl::Mutex mutex_;
  std::function<absl::Status()> copy_hook_ ABSL_GUARDED_BY(mutex_);

  std::atomic<int64_t> free_bytes_;
  std::atomic<int64_t> taken_bytes_ = 0;
  std::atomic<int64_t> allocations_ = 0;
  std::atomic<bool> forbidden_ = false;
  std::atomic<int64_t> lowest_free_ = int64_t{1} << 62;
  std::atomic<int64_t> uploaded_bytes_ = 0;
  std::atomic<int64_t> captured_steps_ = 0;
  std::atomic<int64_t> downloaded_bytes_ = 0;
  absl::Status error_ ABSL_GUARDED_BY(mutex_);
};

// The CPU's ops over a TaggedDevice: the same bits. Both must outlive them.
std::unique_ptr<kernels::Ops> MakeTaggedOps(TaggedDevice* device, ThreadTeam* team);

// Where an address of a TaggedDevice lies in host memory; aborts on another one.
void* HostAddress(const void* tagged);

}  // namespace ccoe::testing

#endif  // CCOE_TESTS_TESTING_TAGGED_DEVICE_H_
