// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/workspace.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/paged_attention.h"
#include "kernels/cuda/stream.h"
#include "runtime/base/status_macros.h"

namespace ccoe::kernels {
namespace {

// Of the arrays that go with a row or a pair beside the large ones: ids, slots, weights, steering.
constexpr int64_t kRowArrayBytes = 64;
// Of the rows of logits that tokens are chosen from at a time, unless one row is more.
constexpr int64_t kSampledGroupBytes = int64_t{32} << 20;
// Graphs cost host and device memory each; past so many batch sizes they are hardly used.
constexpr int64_t kMostGraphs = 128;
constexpr int64_t kMostGraphBytes = int64_t{256} << 20;
// Of a captured step's arrays beside attention's items and tables, which its layers share, those
// with a sliding window by themselves (twice, then).
constexpr int64_t kStepArrayBytes = int64_t{512} << 10;

// Of a grouped feed-forward, all arrays of its pairs, tiles and groups with it, wherever they lie.
CallMemory GroupedCall(const OpShapes::Experts& shape, const MatmulOptions& options) {
  const bool f32 = options.math == DType::kF32;
  const int64_t x_bytes = f32 ? 0 : shape.rows * RoundUp(shape.hidden, kFeatureStep) * 2;
  // f32 wherever few rows go through each expert.
  const int64_t inner_bytes = shape.pairs * RoundUp(shape.intermediate, kFeatureStep) * 4;
  CallMemory call;
  call.arrays = shape.pairs * kRowArrayBytes +
                (shape.pairs + shape.experts) * static_cast<int64_t>(sizeof(MatmulTile)) +
                shape.experts * 3 * static_cast<int64_t>(sizeof(MatmulPart));
  call.workspace = x_bytes + (f32 ? 2 : 1) * inner_bytes + call.arrays;
  return call;
}

void Grow(int64_t workspace, int64_t arrays, CallMemory* call) {
  call->workspace = std::max(call->workspace, workspace);
  call->arrays = std::max(call->arrays, arrays);
}

}  // namespace

CallMemory LargestCall(const OpShapes& shapes, const MatmulOptions& options, int multiprocessors) {
  CallMemory call;
  for (const OpShapes::Product& p : shapes.products) {
    Grow(LinearWorkspace(options, multiprocessors, p.rows, p.in, p.out), p.rows * kRowArrayBytes,
         &call);
  }
  for (const OpShapes::HeadProduct& p : shapes.head_products) {
    Grow(HeadLinearWorkspace(options, p.rows, p.heads, p.in), 0, &call);
  }
  for (const OpShapes::Attention& shape : shapes.attentions) {
    const AttentionMemory memory = AttentionMemoryFor(shape, multiprocessors);
    Grow(memory.workspace, memory.arrays, &call);
  }
  for (const OpShapes::Experts& shape : shapes.experts) {
    const CallMemory memory = GroupedCall(shape, options);
    Grow(memory.workspace, memory.arrays, &call);
  }
  const int64_t row_bytes = shapes.vocabulary * static_cast<int64_t>(sizeof(float));
  Grow(std::min(shapes.sampled_rows * row_bytes, std::max(kSampledGroupBytes, row_bytes)),
       shapes.sampled_rows * kRowArrayBytes, &call);
  return call;
}

absl::Status CheckSharedMemory(const OpShapes& shapes, size_t limit) {
  for (const OpShapes::Attention& shape : shapes.attentions) {
    if (shape.rows == 0) continue;
    // The kernel for any head and cache is what all others fall back to.
    const size_t needed = AttentionGeneralShared(shape.head_dim);
    if (needed <= limit) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("attention with heads of ", shape.head_dim, " needs ", needed,
                     " bytes of shared memory a block: expected a device that has them, found one "
                     "with ",
                     limit));
  }
  return absl::OkStatus();
}

int64_t GraphStepBytes(const OpShapes& shapes, int multiprocessors) {
  int64_t attention = 0;
  for (OpShapes::Attention shape : shapes.attentions) {
    shape.rows = std::min(shape.rows, shape.sequences);  // a captured step has one a sequence
    attention = std::max(attention, AttentionMemoryFor(shape, multiprocessors).arrays);
  }
  return RoundUp(kStepArrayBytes + 2 * attention, int64_t{1} << 20);
}

absl::Status FitCudaOptions(const OpShapes& shapes, CudaOptions* options) {
  int multiprocessors = 0;
  const absl::Status status = CudaStatus(
      cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, options->device),
      absl::StrCat("cuda:", options->device, ": reading the number of multiprocessors"));
  if (!status.ok()) return status;
  const std::string device = absl::StrCat("cuda:", options->device);
  CCOE_ASSIGN_OR_RETURN(const size_t shared, SharedLimit(options->device));
  CCOE_RETURN_IF_ERROR_IN(CheckSharedMemory(shapes, shared), device);
  const CallMemory call =
      LargestCall(shapes, {options->math, options->deterministic}, multiprocessors);
  constexpr int64_t kMegabyte = int64_t{1} << 20;
  options->workspace_bytes = static_cast<size_t>(RoundUp(call.workspace, kMegabyte) + kMegabyte);
  options->host_ring_bytes = std::max(
      options->host_ring_bytes,
      static_cast<size_t>(Stream::kRingParts * RoundUp(call.arrays + kMegabyte, kMegabyte)));
  const int64_t step = GraphStepBytes(shapes, multiprocessors);
  const int64_t graphs = std::min({shapes.captured_steps, kMostGraphs, kMostGraphBytes / step});
  options->graph_step_bytes = static_cast<size_t>(step);
  options->graph_bytes = static_cast<size_t>(graphs * step);
  return absl::OkStatus();
}

}  // namespace ccoe::kernels
