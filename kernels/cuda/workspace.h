// SPDX-License-Identifier: Apache-2.0
// The memory that calls of known shapes need of a Stream.
#ifndef CCOE_KERNELS_CUDA_WORKSPACE_H_
#define CCOE_KERNELS_CUDA_WORKSPACE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/cuda/linear.h"
#include "kernels/op_shapes.h"

namespace ccoe::kernels {

// Of the largest call.
struct CallMemory {
  int64_t workspace = 0;  // device memory
  int64_t arrays = 0;     // host arrays
};

CallMemory LargestCall(const OpShapes& shapes, const MatmulOptions& options, int multiprocessors);

// Host arrays of a captured step, of one row a sequence.
int64_t GraphStepBytes(const OpShapes& shapes, int multiprocessors);

// FAILED_PRECONDITION names the call whose kernel needs more than a block can ask for.
absl::Status CheckSharedMemory(const OpShapes& shapes, size_t limit);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_WORKSPACE_H_
