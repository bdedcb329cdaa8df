// SPDX-License-Identifier: Apache-2.0
// Captured steps of a Stream: see stream.h.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/stream.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace ccoe::kernels {

absl::Status Stream::MakeGraphMemory(size_t graphs, size_t bytes_each) {
  if (graphs == 0) return absl::OkStatus();
  CCOE_RETURN_IF_ERROR(MakeBlock(graphs * bytes_each, &graph_memory_));
  for (size_t i = 0; i < graphs; ++i) {
    const size_t at = i * bytes_each;
    free_blocks_.push_back({graph_memory_.host + at, graph_memory_.device + at, bytes_each});
  }
  return absl::OkStatus();
}

absl::Status Stream::MakeGraph(Graph* graph) {
  graph->host = free_blocks_.back();
  free_blocks_.pop_back();
  return CudaStatus(cudaEventCreateWithFlags(&graph->sent, cudaEventDisableTiming),
                    "cuda: a graph");
}

void Stream::FreeGraph(Graph* graph) {
  cudaStreamSynchronize(stream_);  // it may still be running
  if (graph->exec != nullptr) cudaGraphExecDestroy(graph->exec);
  if (graph->sent != nullptr) cudaEventDestroy(graph->sent);
  free_blocks_.push_back(graph->host);
  *graph = {};
}

void Stream::BeginStep(Mode mode, Graph* graph) {
  graph->used = 0;
  graph->once.clear();
  arrays_overflow_ = false;
  hash_ = 0;
  mode_ = mode;
  current_ = graph;
}

absl::Status Stream::Capture(absl::FunctionRef<void()> body, Graph* graph) {
  if (graph->exec != nullptr) {
    // It may still be running.
    CCOE_RETURN_IF_ERROR(CudaStatus(cudaStreamSynchronize(stream_), "cuda: leaving a graph"));
    cudaGraphExecDestroy(graph->exec);
    graph->exec = nullptr;
  }
  // Thread-local: what other threads do to the device meanwhile is not their business here.
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
                                  "cuda: capturing"));
  BeginStep(Mode::kCapture, graph);
  body();
  mode_ = Mode::kPlain;
  current_ = nullptr;
  graph->hash = hash_;
  absl::Status status;
  std::swap(status, status_);
  if (arrays_overflow_) {
    status.Update(absl::ResourceExhaustedError("cuda: host arrays of a step do not fit"));
  }
  cudaGraph_t captured = nullptr;
  status.Update(CudaStatus(cudaStreamEndCapture(stream_, &captured), "cuda: end of a capture"));
  if (status.ok()) {
    status = CudaStatus(cudaGraphInstantiate(&graph->exec, captured, 0), "cuda: making a graph");
  }
  if (captured != nullptr) cudaGraphDestroy(captured);
  return status;
}

absl::Status Stream::LaunchGraph(Graph* graph) {
  if (graph->used > 0) {
    CCOE_RETURN_IF_ERROR(CudaStatus(cudaMemcpyAsync(graph->host.device, graph->host.host,
                                                    graph->used, cudaMemcpyHostToDevice, stream_),
                                    "cuda: sending a step's host arrays"));
    CCOE_RETURN_IF_ERROR(CudaStatus(cudaEventRecord(graph->sent, stream_), "cuda: a graph"));
  }
  ++graphs_launched_;
  return CudaStatus(cudaGraphLaunch(graph->exec, stream_), "cuda: launching a graph");
}

// True where the graph was launched (or an error stuck).
bool Stream::Replay(absl::FunctionRef<void()> body, Graph* graph) {
  // The arrays of the step before may still be on their way.
  Fail(CudaStatus(cudaEventSynchronize(graph->sent), "cuda: a graph"));
  if (!status_.ok()) return true;
  const size_t captured_bytes = graph->used;
  BeginStep(Mode::kReplay, graph);
  body();
  mode_ = Mode::kPlain;
  current_ = nullptr;
  if (!status_.ok()) return true;
  if (arrays_overflow_ || hash_ != graph->hash || graph->used != captured_bytes) {
    ++graph->misses;
    return false;
  }
  graph->misses = 0;
  Fail(LaunchGraph(graph));
  return true;
}

bool Stream::Refused(uint64_t key) {
  const auto found = refused_.find(key);
  return found != refused_.end() && --found->second.left >= 0;
}

void Stream::Refuse(uint64_t key) {
  Refusal& refusal = refused_[key];
  refusal.wait = std::clamp(2 * refusal.wait, kFirstWait, kLongestWait);
  refusal.left = refusal.wait;
}

void Stream::RunCaptured(uint64_t key, absl::FunctionRef<void()> body) {
  CCOE_CHECK(mode_ == Mode::kPlain);  // steps do not nest
  if (!status_.ok()) return body();   // its calls do nothing now
  if (warm_.size() >= kMaxKeys && warm_.count(key) == 0) return body();
  const bool first = warm_.insert(key).second;
  if (first || Refused(key)) return body();
  auto found = graphs_.find(key);
  if (found == graphs_.end()) {
    if (free_blocks_.empty()) return body();
    found = graphs_.emplace(key, Graph{}).first;
    if (!MakeGraph(&found->second).ok()) found->second.misses = kMaxMisses;
  } else if (Replay(body, &found->second)) {
    refused_.erase(key);
    return;
  }
  if (found->second.misses < kMaxMisses && Capture(body, &found->second).ok()) {
    return Fail(LaunchGraph(&found->second));
  }
  // Whatever cannot be captured can be run.
  Refuse(key);
  FreeGraph(&found->second);
  graphs_.erase(found);
  body();
}

}  // namespace ccoe::kernels
