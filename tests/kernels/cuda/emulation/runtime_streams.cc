// SPDX-License-Identifier: Apache-2.0
// The CUDA runtime over an emulated device: streams, events, graphs and launches.
#include <cuda_runtime_api.h>

#include <memory>
#include <utility>

#include "tests/kernels/cuda/emulation/address_space.h"
#include "tests/kernels/cuda/emulation/block.h"
#include "tests/kernels/cuda/emulation/invoke.h"
#include "tests/kernels/cuda/emulation/runtime_state.h"
#include "tests/kernels/cuda/emulation/symbols.h"

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

namespace {

constexpr size_t kSharedWithoutAsking = size_t{48} << 10;

}  // namespace

using namespace ccoe::emulation;  // NOLINT: this file is the global functions of CUDA

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

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  if (runtime.loaded.insert(kernel).second && BreaksCapture(runtime)) {
    return Result(cudaErrorStreamCaptureUnsupported);
  }
  *attributes = {};
  attributes->maxThreadsPerBlock = kMostThreads;
  for (const Variable& variable : SharedVariables(kernel)) {
    attributes->sharedSizeBytes += variable.bytes;
  }
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
  Runtime& runtime = TheRuntime();
  absl::MutexLock lock(&runtime.mutex);
  if (value < 0 || value > static_cast<int>(TheDevice().shared_bytes)) {
    return Result(cudaErrorInvalidValue);
  }
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
  if (runtime.loaded.insert(kernel).second && BreaksCapture(runtime)) {
    return Result(cudaErrorStreamCaptureUnsupported);
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
