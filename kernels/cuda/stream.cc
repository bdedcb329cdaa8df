// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/stream.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/kernel_list.h"
#include "kernels/serving_thread.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace ccoe::kernels {
namespace {

constexpr size_t kSharedWithoutAsking = size_t{48} << 10;

}  // namespace

absl::StatusOr<size_t> SharedLimit(int device) {
  int bytes = 0;
  const absl::Status status =
      CudaStatus(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
                 absl::StrCat("cuda:", device, ": reading the shared memory of a block"));
  if (!status.ok()) return status;
  return static_cast<size_t>(bytes);
}

absl::StatusOr<std::unique_ptr<Stream>> Stream::Create(const CudaOptions& options) {
  auto stream = std::unique_ptr<Stream>(new Stream);
  CCOE_RETURN_IF_ERROR(stream->Init(options));
  return stream;
}

absl::Status Stream::Init(const CudaOptions& options) {
  device_ = options.device;
  const std::string what = absl::StrCat("cuda:", device_, ": making the ops' stream");
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaSetDevice(device_), what));
  CCOE_RETURN_IF_ERROR(CudaStatus(
      cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, device_), what));
  CCOE_ASSIGN_OR_RETURN(shared_limit_, SharedLimit(device_));
  CCOE_RETURN_IF_ERROR(LoadKernels());
  CCOE_RETURN_IF_ERROR(
      CudaStatus(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), what));
  for (cudaEvent_t& event : ring_left_) {
    CCOE_RETURN_IF_ERROR(
        CudaStatus(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), what));
  }
  const size_t part = std::max<size_t>(options.host_ring_bytes / kRingParts / 256 * 256, 256);
  CCOE_RETURN_IF_ERROR(MakeBlock(part * kRingParts, &ring_));
  const size_t step = std::max<size_t>(options.graph_step_bytes / 256 * 256, 256);
  CCOE_RETURN_IF_ERROR(MakeGraphMemory(options.graph_bytes / step, step));
  workspace_bytes_ = std::max<size_t>(options.workspace_bytes, 256);
  return CudaStatus(cudaMalloc(reinterpret_cast<void**>(&workspace_), workspace_bytes_), what);
}

// Asking for its attributes loads a kernel where CUDA would do it with the first launch.
absl::Status Stream::LoadKernels() const {
  for (const KernelEntry& entry : ListedKernels()) {
    cudaFuncAttributes attributes;
    CCOE_RETURN_IF_ERROR(
        CudaStatus(cudaFuncGetAttributes(&attributes, entry.kernel),
                   absl::StrCat("cuda:", device_, ": loading kernel ", KernelName(entry))));
  }
  return absl::OkStatus();
}

// What CUDA answers to clean-up is of no use any more.
Stream::~Stream() {
  cudaSetDevice(device_);
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  for (auto& [key, graph] : graphs_) FreeGraph(&graph);
  FreeBlock(&graph_memory_);
  FreeBlock(&ring_);
  if (workspace_ != nullptr) cudaFree(workspace_);
  for (cudaEvent_t event : ring_left_) {
    if (event != nullptr) cudaEventDestroy(event);
  }
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

void Stream::Fail(const absl::Status& status) { status_.Update(status); }

absl::Status Stream::MakeBlock(size_t bytes, HostBlock* block) {
  const std::string what = absl::StrCat("cuda:", device_, ": ", bytes, " bytes for host arrays");
  block->bytes = bytes;
  CCOE_RETURN_IF_ERROR(CudaStatus(
      cudaHostAlloc(reinterpret_cast<void**>(&block->host), bytes, cudaHostAllocDefault), what));
  return CudaStatus(cudaMalloc(reinterpret_cast<void**>(&block->device), bytes), what);
}

void Stream::FreeBlock(HostBlock* block) {
  if (block->host != nullptr) cudaFreeHost(block->host);
  if (block->device != nullptr) cudaFree(block->device);
  *block = {};
}

char* Stream::Workspace(size_t bytes) {
  if (!status_.ok()) return nullptr;
  if (bytes <= workspace_bytes_) return workspace_;
  const std::string what = absl::StrCat("cuda:", device_, ": a workspace of ", bytes, " bytes");
  if (mode_ == Mode::kCapture) {
    Fail(absl::FailedPreconditionError(absl::StrCat(what, ": grown while capturing")));
    return nullptr;
  }
  NoteAllocation();
  // Ops in flight may use the old one. In a replay the new address makes the hash another.
  Fail(CudaStatus(cudaStreamSynchronize(stream_), what));
  Fail(CudaStatus(cudaFree(workspace_), what));
  workspace_ = nullptr;
  workspace_bytes_ = 0;
  const size_t grown = RoundUp(static_cast<int64_t>(bytes), 1 << 20);
  Fail(CudaStatus(cudaMalloc(reinterpret_cast<void**>(&workspace_), grown), what));
  if (!status_.ok()) return nullptr;
  workspace_bytes_ = grown;
  return workspace_;
}

// Moves to the next part of the ring where `bytes` do not fit into this one: a part is used again
// only when all that was put on the stream before it was left has run.
absl::Status Stream::AdvanceRing(size_t bytes) {
  const size_t part_bytes = ring_.bytes / kRingParts;
  if (bytes > part_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cuda:", device_, ": host arrays of one call: expected at most ", part_bytes,
                     " bytes (a quarter of host_ring_bytes), found ", bytes));
  }
  if (ring_at_ + bytes <= part_bytes) return absl::OkStatus();
  const int next = (ring_part_ + 1) % kRingParts;
  CCOE_RETURN_IF_ERROR(
      CudaStatus(cudaEventRecord(ring_left_[ring_part_], stream_), "cuda: host arrays"));
  // An event that was never recorded counts as done.
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaEventSynchronize(ring_left_[next]), "cuda: host arrays"));
  ring_part_ = next;
  ring_at_ = 0;
  return absl::OkStatus();
}

HostBlock Stream::ReserveHost(size_t bytes) {
  if (!status_.ok()) return {};
  const size_t aligned = RoundUp(static_cast<int64_t>(std::max<size_t>(bytes, 1)), 256);
  if (mode_ != Mode::kPlain) {
    Graph& graph = *current_;
    if (graph.used + aligned > graph.host.bytes) {
      arrays_overflow_ = true;
      return {};
    }
    const HostBlock block = {graph.host.host + graph.used, graph.host.device + graph.used, bytes};
    graph.used += aligned;
    return block;
  }
  if (absl::Status status = AdvanceRing(aligned); !status.ok()) {
    Fail(status);
    return {};
  }
  const size_t at = ring_part_ * (ring_.bytes / kRingParts) + ring_at_;
  ring_at_ += aligned;
  const HostBlock block = {ring_.host + at, ring_.device + at, bytes};
  return block;
}

void Stream::Send(const HostBlock& block) {
  // A captured step's arrays are sent whole, before the graph.
  if (mode_ != Mode::kPlain || !status_.ok() || block.bytes == 0) return;
  Fail(CudaStatus(
      cudaMemcpyAsync(block.device, block.host, block.bytes, cudaMemcpyHostToDevice, stream_),
      "cuda: sending host arrays"));
}

int64_t Stream::SendOnce(const HostBlock& block) {
  if (mode_ == Mode::kPlain || !status_.ok() || block.bytes == 0) {
    Send(block);
    return 0;
  }
  for (const HostBlock& earlier : current_->once) {
    if (earlier.bytes != block.bytes || std::memcmp(earlier.host, block.host, block.bytes) != 0) {
      continue;
    }
    current_->used = block.host - current_->host.host;
    return earlier.device - block.device;
  }
  current_->once.push_back(block);
  return 0;
}

// FNV-1a over words, then the odd bytes.
void Stream::Hash(const void* data, size_t bytes) {
  const char* from = static_cast<const char*>(data);
  for (; bytes >= 8; bytes -= 8, from += 8) {
    uint64_t word;
    std::memcpy(&word, from, 8);
    hash_ = (hash_ ^ word) * 0x100000001b3u;
    hash_ ^= hash_ >> 29;
  }
  for (; bytes > 0; --bytes, ++from) {
    hash_ = (hash_ ^ static_cast<unsigned char>(*from)) * 0x100000001b3u;
  }
}

bool Stream::Enqueues(const void* identity, size_t bytes) {
  if (!status_.ok()) return false;
  if (mode_ != Mode::kPlain) Hash(identity, bytes);
  return mode_ != Mode::kReplay;
}

absl::Status Stream::AllowShared(const void* kernel, size_t bytes) {
  if (bytes <= kSharedWithoutAsking) return absl::OkStatus();
  size_t& allowed = shared_[kernel];
  if (bytes <= allowed) return absl::OkStatus();
  CCOE_RETURN_IF_ERROR(
      CudaStatus(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(bytes)),
                 absl::StrCat("cuda: ", bytes, " bytes of shared memory")));
  allowed = bytes;
  return absl::OkStatus();
}

void Stream::LaunchRaw(const void* kernel, const LaunchShape& shape, const void* params,
                       size_t params_bytes) {
  if (shape.grid_x == 0 || shape.grid_y == 0 || shape.grid_z == 0) return;
  CCOE_CHECK(shape.grid_x < (int64_t{1} << 31) && shape.grid_y < 65536 && shape.grid_z < 65536);
  const int64_t shape_words[] = {shape.grid_x,
                                 shape.grid_y,
                                 shape.grid_z,
                                 shape.block,
                                 static_cast<int64_t>(shape.shared_bytes),
                                 static_cast<int64_t>(reinterpret_cast<uintptr_t>(kernel))};
  if (mode_ != Mode::kPlain) Hash(shape_words, sizeof(shape_words));
  if (!Enqueues(params, params_bytes)) return;
  if (absl::Status status = AllowShared(kernel, shape.shared_bytes); !status.ok()) {
    return Fail(status);
  }
  const dim3 grid(static_cast<unsigned>(shape.grid_x), static_cast<unsigned>(shape.grid_y),
                  static_cast<unsigned>(shape.grid_z));
  // One parameter; its size, which CUDA knows, is for the emulation (tests/kernels/cuda/emulation).
  void* arguments[] = {const_cast<void*>(params), &params_bytes};
  Fail(CudaStatus(
      cudaLaunchKernel(kernel, grid, dim3(shape.block), arguments, shape.shared_bytes, stream_),
      "cuda: launching a kernel"));
}

absl::Status Stream::Fetch(const HostBlock& block) {
  if (status_.ok() && block.bytes > 0) {
    Fail(CudaStatus(
        cudaMemcpyAsync(block.host, block.device, block.bytes, cudaMemcpyDeviceToHost, stream_),
        "cuda: fetching results"));
  }
  return Synchronize();
}

absl::Status Stream::Synchronize() {
  CCOE_CHECK(mode_ == Mode::kPlain);  // nothing has run yet while a step is captured
  Fail(CudaStatus(cudaStreamSynchronize(stream_), absl::StrCat("cuda:", device_, ": ops")));
  absl::Status status = absl::OkStatus();
  std::swap(status, status_);
  return status;
}

}  // namespace ccoe::kernels
