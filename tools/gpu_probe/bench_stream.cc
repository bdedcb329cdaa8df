// SPDX-License-Identifier: Apache-2.0
#include "tools/gpu_probe/bench_stream.h"

#include <utility>

#include "runtime/base/status_macros.h"
#include "tools/gpu_probe/device_fill.h"

namespace ccoe::probe {

absl::StatusOr<std::unique_ptr<BenchStream>> BenchStream::Create(Probe* probe) {
  std::unique_ptr<BenchStream> bench(new BenchStream(probe));
  CCOE_ASSIGN_OR_RETURN(bench->device_, probe->Device());
  CCOE_ASSIGN_OR_RETURN(bench->stream_, kernels::Stream::Create({}));
  return bench;
}

absl::StatusOr<void*> BenchStream::Allocate(int64_t bytes) {
  CCOE_ASSIGN_OR_RETURN(kernels::Buffer buffer, device_->Allocate(static_cast<size_t>(bytes)));
  buffers_.push_back(std::move(buffer));
  return buffers_.back().data();
}

absl::StatusOr<kernels::Matrix> BenchStream::Random(int64_t rows, int64_t cols,
                                                    kernels::DType dtype, uint32_t seed) {
  kernels::Matrix matrix = {nullptr, dtype, rows, cols, cols};
  CCOE_ASSIGN_OR_RETURN(matrix.data,
                        Allocate(rows * cols * static_cast<int64_t>(kernels::DTypeBytes(dtype))));
  FillParams fill;
  kernels::ClearParams(&fill);
  fill.data = matrix.data;
  fill.count = rows * cols;
  fill.dtype = dtype;
  fill.seed = seed;
  fill.deviation = 1.0f;
  FillOnDevice(stream_.get(), fill);
  CCOE_RETURN_IF_ERROR(stream_->Synchronize());
  return matrix;
}

absl::StatusOr<double> BenchStream::SecondsOf(absl::FunctionRef<void()> work) {
  return SecondsOfCall(*probe_, work, [this] { return stream_->Synchronize(); });
}

}  // namespace ccoe::probe
