// The CUDA runtime over an emulated device. Work put on a stream is done as late as CUDA allows,
// when somebody waits for it (or much of it has gathered), so that whoever forgets to wait, or
// writes over memory that is still to be read, gets wrong results here too.
#include <cuda_runtime_api.h>

#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "tests/kernels/cuda/emulation/address_space.h"
#include "tests/kernels/cuda/emulation/block.h"
#include "tests/kernels/cuda/emulation/invoke.h"
#include "tests/kernels/cuda/emulation/memory.h"
#include "tests/kernels/cuda/emulation/report.h"
#include "tests/kernels/cuda/emulation/stream_work.h"

struct CUstream_st {
  std::deque<std::function<void()>> waiting;
  uint64_t done = 0;  // pieces of work
  // While it is captured.
  bool capturing = false, broken = false;
  std::thread::id capturing_thread;
  std::vector<std::function<void()>> captured;
};
struct CUevent_st {
  cudaStream_t stream = nullptr;  // of the last record; null: none
  uint64_t at = 0;                // the stream's work before it
};
struct CUgraph_st {
  std::vector<std::function<void()>> work;
};
struct CUgraphExec_st {
  std::shared_ptr<const std::vector<std::function<void()>>> work;
};

namespace ccoe::emulation {
namespace {

constexpr int kMultiprocessors = 8;
constexpr size_t kCapacity = size_t{4} << 30;
constexpr size_t kMostWaiting = 512;
constexpr size_t kSharedWithoutAsking = size_t{48} << 10;

thread_local cudaError_t last_error = cudaSuccess;

cudaError_t Result(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

struct Runtime {
  absl::Mutex mutex;
  GuardedMemory device ABSL_GUARDED_BY(mutex){kDeviceBase, kDeviceRange, kCapacity};
  GuardedMemory pinned ABSL_GUARDED_BY(mutex){kPinnedBase, kPinnedRange, kCapacity};
  std::set<cudaStream_t> streams ABSL_GUARDED_BY(mutex);
  // Dynamic shared memory that a kernel was allowed.
  std::unordered_map<const void*, size_t> allowed ABSL_GUARDED_BY(mutex);
};

Runtime& TheRuntime() {
  static Runtime* const runtime = new Runtime;
  return *runtime;
}

void RunUntil(cudaStream_t stream, uint64_t done) {
  while (stream->done < done && !stream->waiting.empty()) {
    const std::function<void()> work = std::move(stream->waiting.front());
    stream->waiting.pop_front();
    work();
    ++stream->done;
  }
}

void RunAll(cudaStream_t stream) { RunUntil(stream, stream->done + stream->waiting.size()); }

cudaError_t Put(cudaStream_t stream, std::function<void()> work) {
  if (stream->capturing) {
    stream->captured.push_back(std::move(work));
    return cudaSuccess;
  }
  stream->waiting.push_back(std::move(work));
  if (stream->waiting.size() > kMostWaiting) RunUntil(stream, stream->done + kMostWaiting / 2);
  return cudaSuccess;
}

// What waits or allocates must not be called by a thread that captures; the capture is lost then.
bool BreaksCapture(Runtime& runtime) ABSL_EXCLUSIVE_LOCKS_REQUIRED(runtime.mutex) {
  bool breaks = false;
  for (cudaStream_t stream : runtime.streams) {
    if (!stream->capturing || stream->capturing_thread != std::this_thread::get_id()) continue;
    stream->broken = breaks = true;
  }
  return breaks;
}

void CheckAlive(const void* data, size_t bytes) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  if (!TheRuntime().device.Holds(data, bytes)) Fault("a copy meets memory that was freed");
}

}  // namespace

void PutOnStream(cudaStream_t stream, std::function<void()> work) {
  absl::MutexLock lock(&TheRuntime().mutex);
  Put(stream, std::move(work));
}

}  // namespace ccoe::emulation

using namespace ccoe::emulation;  // NOLINT: this file is the global functions of CUDA

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
  }
  return "an error that the emulation does not know";
}
const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  return Result(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return Result(cudaErrorInvalidDevice);
  *value = attribute == cudaDevAttrMultiProcessorCount      ? kMultiprocessors
           : attribute == cudaDevAttrComputeCapabilityMajor ? 9
                                                            : 0;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  *free = runtime.device.free_bytes();
  *total = runtime.device.capacity_bytes();
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, size_t bytes) {
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  if (BreaksCapture(runtime)) return Result(cudaErrorStreamCaptureUnsupported);
  *data = runtime.device.Allocate(bytes);
  return Result(*data == nullptr && bytes > 0 ? cudaErrorMemoryAllocation : cudaSuccess);
}
cudaError_t cudaFree(void* data) {
  if (data == nullptr) return cudaSuccess;
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  if (BreaksCapture(runtime)) return Result(cudaErrorStreamCaptureUnsupported);
  for (cudaStream_t stream : runtime.streams) RunAll(stream);
  return Result(runtime.device.Free(data) ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned) {
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  if (BreaksCapture(runtime)) return Result(cudaErrorStreamCaptureUnsupported);
  *data = runtime.pinned.Allocate(bytes);
  return Result(*data == nullptr && bytes > 0 ? cudaErrorMemoryAllocation : cudaSuccess);
}
cudaError_t cudaFreeHost(void* data) {
  if (data == nullptr) return cudaSuccess;
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  if (BreaksCapture(runtime)) return Result(cudaErrorStreamCaptureUnsupported);
  return Result(runtime.pinned.Free(data) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  const bool to_host = kind == cudaMemcpyDeviceToHost, from_host = kind == cudaMemcpyHostToDevice;
  if ((!to_host && !runtime.device.Holds(to, bytes)) ||
      (!from_host && !runtime.device.Holds(from, bytes))) {
    return Result(cudaErrorInvalidValue);
  }
  const auto copy = [=] {
    if (!to_host) CheckAlive(to, bytes);
    if (!from_host) CheckAlive(from, bytes);
    std::memcpy(to, from, bytes);
  };
  // Of pageable memory CUDA takes a copy before it returns, and fills it before it returns.
  if (from_host && !runtime.pinned.IsOfRange(from)) {
    const auto* begin = static_cast<const char*>(from);
    return Put(stream, [to, bytes, taken = std::vector<char>(begin, begin + bytes)] {
      CheckAlive(to, bytes);
      std::memcpy(to, taken.data(), bytes);
    });
  }
  Put(stream, copy);
  if (to_host && !runtime.pinned.IsOfRange(to)) RunAll(stream);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream) {
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  if (!runtime.device.Holds(data, bytes)) return Result(cudaErrorInvalidValue);
  return Put(stream, [=] {
    CheckAlive(data, bytes);
    std::memset(data, value, bytes);
  });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  *stream = new CUstream_st;
  runtime.streams.insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  if (runtime.streams.erase(stream) == 0) return Result(cudaErrorInvalidResourceHandle);
  RunAll(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  if (BreaksCapture(runtime)) return Result(cudaErrorStreamCaptureUnsupported);
  RunAll(stream);
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  if (BreaksCapture(runtime)) return Result(cudaErrorStreamCaptureUnsupported);
  event->stream = stream;
  event->at = stream->done + stream->waiting.size();
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  if (BreaksCapture(runtime)) return Result(cudaErrorStreamCaptureUnsupported);
  if (runtime.streams.count(event->stream) > 0) RunUntil(event->stream, event->at);
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  if (BreaksCapture(runtime)) return Result(cudaErrorStreamCaptureUnsupported);
  return Put(stream, [other = event->stream, at = event->at]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (TheRuntime().streams.count(other) > 0) RunUntil(other, at);
  });
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  if (stream->capturing) return Result(cudaErrorStreamCaptureUnsupported);
  stream->capturing = true;
  stream->broken = false;
  stream->capturing_thread = std::this_thread::get_id();
  stream->captured.clear();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  *graph = nullptr;
  if (!stream->capturing) return Result(cudaErrorInvalidValue);
  stream->capturing = false;
  if (stream->broken) return Result(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st{std::move(stream->captured)};
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec =
      new CUgraphExec_st{std::make_shared<const std::vector<std::function<void()>>>(graph->work)};
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  return Put(stream, [work = exec->work] {
    for (const std::function<void()>& one : *work) one();
  });
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  if (value < 0 || value > static_cast<int>(kMostSharedBytes)) return Result(cudaErrorInvalidValue);
  runtime.allowed[kernel] = value;
  return cudaSuccess;
}
cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** arguments,
                             size_t shared_bytes, cudaStream_t stream) {
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x >= 1u << 31 || grid.y > 65535 ||
      grid.z > 65535 || threads == 0 || threads > kMostThreads) {
    return Result(cudaErrorInvalidConfiguration);
  }
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  const auto allowed = runtime.allowed.find(kernel);
  if (shared_bytes > (allowed == runtime.allowed.end() ? kSharedWithoutAsking : allowed->second)) {
    return Result(cudaErrorInvalidValue);
  }
  const size_t params_bytes = *static_cast<const size_t*>(arguments[1]);
  if (params_bytes < kLeastParamsBytes || params_bytes > kMostParamsBytes) {
    return Result(cudaErrorInvalidValue);
  }
  const auto* params = static_cast<const char*>(arguments[0]);
  KernelLaunch launch{kernel, grid, block, shared_bytes, {params, params + params_bytes}};
  CheckNoHostPointers(launch);
  return Put(stream, [launch = std::move(launch)] { RunGrid(launch); });
}
