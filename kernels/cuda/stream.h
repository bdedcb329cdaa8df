// SPDX-License-Identifier: Apache-2.0
// One CUDA stream of ops: launches, the memory of a call, the host arrays of a call, errors that
// stick, and steps that are captured once and replayed.
#ifndef CCOE_KERNELS_CUDA_STREAM_H_
#define CCOE_KERNELS_CUDA_STREAM_H_

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/launch.h"

namespace ccoe::kernels {

// The same bytes in pinned host memory and on the device.
struct HostBlock {
  char* host = nullptr;
  char* device = nullptr;
  size_t bytes = 0;
};

// Dynamic shared memory that a block may ask for on the device.
absl::StatusOr<size_t> SharedLimit(int device);

// Not thread-safe: one thread at a time, as an Ops.
//
// How a captured step works. A step with a key runs plainly the first time (what it allocates is
// there afterwards), is captured the second time and replayed from the third on. While captured,
// host arrays go into a block of their own that is sent whole before the graph is launched. A
// replay runs the step's code too, but launches nothing: host arrays are written to where the graph
// expects them, and a hash is taken of every launch (kernel, shape, all parameters). If it is the
// captured one the graph is launched, else the step is captured anew: a graph is never replayed for
// a step that would have launched anything else. A key whose step cannot be captured, or is another
// one every time, runs plainly for a while and is then tried again: what does not fit now (the host
// arrays of long contexts) fits later. All kernels are loaded when the stream is made, so that none
// is for the first time within a capture, where loading it may fail.
class Stream final : public Launcher {
 public:
  static absl::StatusOr<std::unique_ptr<Stream>> Create(const CudaOptions& options);
  ~Stream() override;

  cudaStream_t get() const { return stream_; }
  int device() const { return device_; }
  int multiprocessors() const { return multiprocessors_; }
  // Dynamic shared memory that a block may ask for.
  size_t shared_limit() const { return shared_limit_; }
  // Steps that were launched as graphs.
  int64_t graphs_launched() const { return graphs_launched_; }

  // The first error sticks until Synchronize returns it.
  void Fail(const absl::Status& status);
  bool ok() const { return status_.ok(); }
  // A step is being captured: nothing may be allocated, copied or waited for.
  bool capturing() const { return mode_ == Mode::kCapture; }

  // Device memory for one call, 256-byte aligned, uninitialised; the next call reuses it (calls are
  // ordered by the stream). Ask once a call: options.workspace_bytes are there, more has to be
  // waited for and is counted (serving_thread.h). Null after an error, which sticks.
  char* Workspace(size_t bytes);

  // Room for host arrays of one call; write them, then Send. Blocks of a quarter of the ring at
  // most; `host` is null after an error, which sticks, and where those of a captured step do not
  // fit, which is then run plainly.
  HostBlock ReserveHost(size_t bytes);
  void Send(const HostBlock& block);
  // The same for a block that other calls of the step are likely to send too: of a captured step
  // equal ones are kept once. How many bytes from `block` its content lies on the device. `block`
  // is the last that was reserved.
  int64_t SendOnce(const HostBlock& block);

  // The most that one ReserveHost gives outside of captured steps.
  size_t host_block_bytes() const { return ring_.bytes / kRingParts; }

  // Copies what kernels wrote to block.device to block.host, and Synchronize. `block` is the last
  // that was reserved: the ring does not use it again before the next ReserveHost.
  absl::Status Fetch(const HostBlock& block);

  // For what is not a kernel of ours (cuBLASLt): true where the work must be put on the stream now;
  // false in a replay, or after an error. `identity` is hashed as a launch is.
  bool Enqueues(const void* identity, size_t bytes);

  // See above. `body` may run twice, and must not wait for the stream.
  void RunCaptured(uint64_t key, absl::FunctionRef<void()> body);

  absl::Status Synchronize();

  static constexpr int kRingParts = 4;

 private:
  enum class Mode : uint8_t { kPlain, kCapture, kReplay };

  struct Graph {
    cudaGraphExec_t exec = nullptr;
    uint64_t hash = 0;
    HostBlock host;
    size_t used = 0;              // bytes of `host` that the step writes
    std::vector<HostBlock> once;  // within `host`: what SendOnce has kept of the step
    cudaEvent_t sent = nullptr;   // the last copy of `host` has left
    int misses = 0;               // steps in a row that were not the captured one
  };

  // A key that runs plainly for now.
  struct Refusal {
    int64_t left = 0, wait = 0;  // steps of the key
  };

  Stream() = default;
  absl::Status Init(const CudaOptions& options);
  absl::Status LoadKernels() const;
  bool Refused(uint64_t key);
  void Refuse(uint64_t key);
  // Starts a step that writes to `graph`.
  void BeginStep(Mode mode, Graph* graph);
  void LaunchRaw(const void* kernel, const LaunchShape& shape, const void* params,
                 size_t params_bytes) override;
  void Hash(const void* data, size_t bytes);
  absl::Status AllowShared(const void* kernel, size_t bytes);
  absl::Status AdvanceRing(size_t bytes);
  absl::Status MakeBlock(size_t bytes, HostBlock* block);
  void FreeBlock(HostBlock* block);
  absl::Status MakeGraphMemory(size_t graphs, size_t bytes_each);
  absl::Status MakeGraph(Graph* graph);
  void FreeGraph(Graph* graph);
  // Runs `body` in capture mode and fills `graph`. An error leaves nothing on the stream.
  absl::Status Capture(absl::FunctionRef<void()> body, Graph* graph);
  bool Replay(absl::FunctionRef<void()> body, Graph* graph);
  absl::Status LaunchGraph(Graph* graph);

  static constexpr int kMaxMisses = 8;
  static constexpr size_t kMaxKeys = 4096;  // seen at all
  static constexpr int64_t kFirstWait = 16, kLongestWait = 4096;

  int device_ = 0;
  int multiprocessors_ = 1;
  size_t shared_limit_ = 0;
  cudaStream_t stream_ = nullptr;
  absl::Status status_;

  char* workspace_ = nullptr;
  size_t workspace_bytes_ = 0;

  HostBlock ring_;
  int ring_part_ = 0;                       // the one in use
  size_t ring_at_ = 0;                      // within it
  cudaEvent_t ring_left_[kRingParts] = {};  // recorded when a part was left: its readers are before

  Mode mode_ = Mode::kPlain;
  Graph* current_ = nullptr;      // in kCapture and kReplay
  bool arrays_overflow_ = false;  // of the step that is captured or replayed
  uint64_t hash_ = 0;
  std::unordered_map<const void*, size_t> shared_;  // by kernel: what it was allowed
  std::unordered_set<uint64_t> warm_;               // keys that ran plainly
  std::unordered_map<uint64_t, Refusal> refused_;
  std::unordered_map<uint64_t, Graph> graphs_;
  int64_t graphs_launched_ = 0;
  HostBlock graph_memory_;              // in blocks of options.graph_step_bytes
  std::vector<HostBlock> free_blocks_;  // of graph_memory_
};

// Host arrays of one call, gathered into one block: Room for each first, then Make, then Put in the
// same order.
class HostArrays {
 public:
  explicit HostArrays(Stream* stream) : stream_(stream) {}

  // Adds room for `count` elements of T.
  template <class T>
  void Room(int64_t count) {
    bytes_ += Aligned(count * sizeof(T));
  }
  // False after an error, which sticks in the stream.
  bool Make() {
    block_ = stream_->ReserveHost(bytes_);
    return block_.host != nullptr;
  }
  // Host memory of the next array, to be filled, and its place on the device in *device.
  template <class T>
  T* Place(int64_t count, const T** device) {
    T* host = reinterpret_cast<T*>(block_.host + at_);
    *device = reinterpret_cast<const T*>(block_.device + at_);
    at_ += Aligned(count * sizeof(T));
    return host;
  }
  template <class T>
  const T* Put(absl::Span<const T> values) {
    const T* device = nullptr;
    T* host = Place<T>(static_cast<int64_t>(values.size()), &device);
    if (!values.empty()) std::memcpy(host, values.data(), values.size() * sizeof(T));
    return device;
  }
  void Send() { stream_->Send(block_); }
  // See Stream: what Place and Put said of the device is so many bytes further.
  int64_t SendOnce() { return stream_->SendOnce(block_); }

 private:
  static size_t Aligned(size_t bytes) { return (bytes + 15) / 16 * 16; }

  Stream* const stream_;
  size_t bytes_ = 0;
  size_t at_ = 0;
  HostBlock block_;
};

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_STREAM_H_
