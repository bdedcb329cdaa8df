// SPDX-License-Identifier: Apache-2.0
// The kernels of the roofline. Launches are asynchronous; cudaGetLastError tells whether one
// started.
#ifndef CCOE_KERNELS_CUDA_ROOFLINE_FILL_H_
#define CCOE_KERNELS_CUDA_ROOFLINE_FILL_H_

#include <cuda_runtime_api.h>

#include <cstdint>

namespace ccoe::kernels {

// Reads `bytes` (a multiple of 16) at `data`, 16 a thread and load, and adds one word a block to
// `sums` when the bytes' sum is `never`, which keeps the loads from being left out.
void LaunchRead(const void* data, int64_t bytes, uint32_t never, uint32_t* sums,
                cudaStream_t stream);

// 16-bit floats of both kinds that are finite and about half negative: `count` words at `data`.
void LaunchFillHalves(uint16_t* data, int64_t count, bool bf16, cudaStream_t stream);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_ROOFLINE_FILL_H_
