// SPDX-License-Identifier: Apache-2.0
// What the functions of the emulated runtime share: the device's memory and its streams. Work put
// on a stream is done as late as CUDA allows, when somebody waits for it (or much of it has
// gathered), so that whoever forgets to wait, or writes over memory that is still to be read, gets
// wrong results here too.
#ifndef CCOE_TESTS_KERNELS_CUDA_EMULATION_RUNTIME_STATE_H_
#define CCOE_TESTS_KERNELS_CUDA_EMULATION_RUNTIME_STATE_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <set>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "tests/kernels/cuda/emulation/address_space.h"
#include "tests/kernels/cuda/emulation/memory.h"

struct CUstream_st {
  std::deque<std::function<void()>> waiting;
  uint64_t done = 0;  // pieces of work
  // While it is captured.
  bool capturing = false, broken = false;
  std::thread::id capturing_thread;
  std::vector<std::function<void()>> captured;
};

namespace ccoe::emulation {

// $CCOE_EMULATION_CAPABILITY: "9.0" (the default) or "8.6", whose blocks have less shared memory.
struct MadeUpDevice {
  int major, minor;
  size_t shared_bytes;  // dynamic, of a block, for the asking
};
const MadeUpDevice& TheDevice();

struct Runtime {
  static constexpr size_t kCapacity = size_t{4} << 30;

  absl::Mutex mutex;
  GuardedMemory device ABSL_GUARDED_BY(mutex){kDeviceBase, kDeviceRange, kCapacity};
  GuardedMemory pinned ABSL_GUARDED_BY(mutex){kPinnedBase, kPinnedRange, kCapacity};
  std::set<cudaStream_t> streams ABSL_GUARDED_BY(mutex);
  // Dynamic shared memory that a kernel was allowed.
  std::unordered_map<const void*, size_t> allowed ABSL_GUARDED_BY(mutex);
  // Kernels whose code is on the device. Loading one while a stream is captured loses the capture:
  // CUDA may allocate memory for it.
  std::unordered_set<const void*> loaded ABSL_GUARDED_BY(mutex);
};

Runtime& TheRuntime();

// `error`, which is kept for cudaGetLastError.
cudaError_t Result(cudaError_t error);

// The caller holds TheRuntime().mutex, for these and for what a stream does.

void RunUntil(cudaStream_t stream, uint64_t done);
void RunAll(cudaStream_t stream);
cudaError_t Put(cudaStream_t stream, std::function<void()> work);
// True where the calling thread captures: what waits or allocates must not be called then, and the
// capture is lost.
bool BreaksCapture(Runtime& runtime) ABSL_EXCLUSIVE_LOCKS_REQUIRED(runtime.mutex);

}  // namespace ccoe::emulation

#endif  // CCOE_TESTS_KERNELS_CUDA_EMULATION_RUNTIME_STATE_H_
