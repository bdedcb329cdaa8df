// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cuda/emulation/runtime_state.h"

#include <cstdlib>
#include <string>
#include <utility>

#include "runtime/base/check.h"
#include "tests/kernels/cuda/emulation/block.h"
#include "tests/kernels/cuda/emulation/stream_work.h"

namespace ccoe::emulation {
namespace {

constexpr size_t kMostWaiting = 512;

thread_local cudaError_t last_error = cudaSuccess;

}  // namespace

const MadeUpDevice& TheDevice() {
  static const MadeUpDevice device = [] {
    const char* value = std::getenv("CCOE_EMULATION_CAPABILITY");
    const std::string capability = value == nullptr ? "9.0" : value;
    CCOE_CHECK(capability == "9.0" || capability == "8.6");
    return capability == "9.0" ? MadeUpDevice{9, 0, kMostSharedBytes}
                               : MadeUpDevice{8, 6, size_t{99} << 10};
  }();
  return device;
}

Runtime& TheRuntime() {
  static Runtime* const runtime = new Runtime;
  return *runtime;
}

cudaError_t Result(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
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

bool BreaksCapture(Runtime& runtime) {
  bool breaks = false;
  for (cudaStream_t stream : runtime.streams) {
    if (!stream->capturing || stream->capturing_thread != std::this_thread::get_id()) continue;
    stream->broken = breaks = true;
  }
  return breaks;
}

void PutOnStream(cudaStream_t stream, std::function<void()> work) {
  absl::MutexLock lock(&TheRuntime().mutex);
  Put(stream, std::move(work));
}

}  // namespace ccoe::emulation

cudaError_t cudaGetLastError() { return std::exchange(ccoe::emulation::last_error, cudaSuccess); }
