#include "kernels/cuda/workspace.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/paged_attention.h"
#include "kernels/cuda/stream.h"

namespace ccoe::kernels {
namespace {

// Of the arrays that go with a row or a pair beside the large ones: ids, slots, weights, steering.
constexpr int64_t kRowArrayBytes = 64;
// Of the rows of logits that tokens are chosen from at a time, unless one row is more.
constexpr int64_t kSampledGroupBytes = int64_t{32} << 20;
// Graphs cost host and device memory each; past so many batch sizes they are hardly used.
constexpr int64_t kMostGraphs = 128;

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

absl::Status FitCudaOptions(const OpShapes& shapes, CudaOptions* options) {
  int multiprocessors = 0;
  const absl::Status status = CudaStatus(
      cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, options->device),
      absl::StrCat("cuda:", options->device, ": reading the number of multiprocessors"));
  if (!status.ok()) return status;
  const CallMemory call =
      LargestCall(shapes, {options->math, options->deterministic}, multiprocessors);
  constexpr int64_t kMegabyte = int64_t{1} << 20;
  options->workspace_bytes = static_cast<size_t>(RoundUp(call.workspace, kMegabyte) + kMegabyte);
  options->host_ring_bytes = std::max(
      options->host_ring_bytes,
      static_cast<size_t>(Stream::kRingParts * RoundUp(call.arrays + kMegabyte, kMegabyte)));
  options->graph_bytes =
      static_cast<size_t>(std::min(shapes.captured_steps, kMostGraphs)) * Stream::kGraphHostBytes;
  return absl::OkStatus();
}

}  // namespace ccoe::kernels
