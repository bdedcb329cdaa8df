// SPDX-License-Identifier: Apache-2.0
// A stream of kernels/cuda and device memory for measurements of single kernels.
#ifndef CCOE_TOOLS_GPU_PROBE_BENCH_STREAM_H_
#define CCOE_TOOLS_GPU_PROBE_BENCH_STREAM_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/stream.h"
#include "kernels/dtype.h"
#include "kernels/view.h"
#include "tools/gpu_probe/probe.h"

namespace ccoe::probe {

// Not thread-safe.
class BenchStream {
 public:
  static absl::StatusOr<std::unique_ptr<BenchStream>> Create(Probe* probe);

  kernels::Stream* stream() { return stream_.get(); }

  // Zeros.
  absl::StatusOr<void*> Allocate(int64_t bytes);
  // [rows, cols] of standard deviation one; rows lie `stride` elements apart (0: cols).
  absl::StatusOr<kernels::Matrix> Random(int64_t rows, int64_t cols, kernels::DType dtype,
                                         uint32_t seed);

  absl::StatusOr<double> SecondsOf(absl::FunctionRef<void()> work);

 private:
  explicit BenchStream(Probe* probe) : probe_(probe) {}

  Probe* const probe_;
  kernels::Device* device_ = nullptr;
  std::vector<kernels::Buffer> buffers_;
  std::unique_ptr<kernels::Stream> stream_;
};

}  // namespace ccoe::probe

#endif  // CCOE_TOOLS_GPU_PROBE_BENCH_STREAM_H_
