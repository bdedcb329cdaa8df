// SPDX-License-Identifier: Apache-2.0
// Kernels with one mistake each, and without.
#ifndef CCOE_TESTS_KERNELS_CUDA_EMULATION_TEST_KERNELS_H_
#define CCOE_TESTS_KERNELS_CUDA_EMULATION_TEST_KERNELS_H_

#include <cstdint>

#include "kernels/cuda/launch.h"

namespace ccoe::emulation {

enum class Kernel : uint8_t {
  kRotate,             // out[t] = in[(t + shift) % n], through dynamic shared memory
  kRotateNoBarrier,    // the same without __syncthreads
  kRotateStatic,       // through static shared memory
  kRotateWarp,         // within a warp, and __syncwarp
  kRotateWarpNoSync,   // the same without
  kRotateAsync,        // by cp.async, waited for; n times 16 bytes
  kRotateAsyncNoWait,  // the same without the wait
  kRotateAsyncTooFew,  // waits for all groups but one too many
  kReadsUnwritten,     // out[t] is what dynamic shared memory holds at first
  kReadsUnwrittenStatic,
  kDivergentBarrier,  // half of the threads come to another __syncthreads
  kMissingLane,       // lane 3 does not come to a shuffle
  kTwoPlaces,         // lanes shuffle at two places
  kEndsEarly,         // half of the threads end before the barrier of the others
  kReduces,           // out[t] = sum over the warp, ballot and broadcast
  kWritesBeyond,      // out[n + 16 bytes]
  kReadsBefore,       // in[-1]
  kSharedBeyond,      // dynamic shared memory
  kIndexBeyond,       // of a static array
  kMisaligned,        // 16 bytes at an odd word
  kCounts,            // out[t] = how many threads of the block have in[t] > 0, and how many blocks
  kMma,               // out [16, 8] = in [16, 16] * in2 [8, 16]^T, bf16 in `bits`
  kMmaF16,
  kTranspose,  // out [16, 16] = in [16, 16] transposed, 16-bit, by ldmatrix
};

// float arrays of n elements, or what the kernel says.
struct TestParams {
  const void* in;
  const void* in2;
  void* out;
  int64_t n;
  int32_t shift;
};

void LaunchTestKernel(kernels::Launcher* launcher, Kernel kernel, const kernels::LaunchShape& shape,
                      const TestParams& params);

}  // namespace ccoe::emulation

#endif  // CCOE_TESTS_KERNELS_CUDA_EMULATION_TEST_KERNELS_H_
