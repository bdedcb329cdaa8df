// SPDX-License-Identifier: Apache-2.0
// How what is not a kernel gets on a stream.
#ifndef CCOE_TESTS_KERNELS_CUDA_EMULATION_STREAM_WORK_H_
#define CCOE_TESTS_KERNELS_CUDA_EMULATION_STREAM_WORK_H_

#include <cuda_runtime_api.h>

#include <functional>

namespace ccoe::emulation {

// Runs `work` when the stream comes to it, or whenever the graph runs that is being captured.
void PutOnStream(cudaStream_t stream, std::function<void()> work);

}  // namespace ccoe::emulation

#endif  // CCOE_TESTS_KERNELS_CUDA_EMULATION_STREAM_WORK_H_
