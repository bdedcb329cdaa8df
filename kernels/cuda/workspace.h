// The memory that calls of known shapes need of a Stream.
#ifndef CCOE_KERNELS_CUDA_WORKSPACE_H_
#define CCOE_KERNELS_CUDA_WORKSPACE_H_

#include <cstdint>

#include "kernels/cuda/linear.h"
#include "kernels/op_shapes.h"

namespace ccoe::kernels {

// Of the largest call.
struct CallMemory {
  int64_t workspace = 0;  // device memory
  int64_t arrays = 0;     // host arrays
};

CallMemory LargestCall(const OpShapes& shapes, const MatmulOptions& options, int multiprocessors);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_WORKSPACE_H_
