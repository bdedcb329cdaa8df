// SPDX-License-Identifier: Apache-2.0
// Stands in for the CUDA ops in builds without --config=cuda.
#include "absl/status/status.h"
#include "kernels/cuda/cuda_ops.h"

namespace ccoe::kernels {
namespace {

absl::Status NotBuilt() {
  return absl::UnimplementedError(
      "cuda: this binary was built without CUDA; build with --config=cuda");
}

}  // namespace

int CudaDeviceCount() { return 0; }

absl::StatusOr<std::unique_ptr<Device>> OpenCudaDevice(int) { return NotBuilt(); }

absl::Status FitCudaOptions(const OpShapes&, CudaOptions*) { return NotBuilt(); }

absl::StatusOr<std::unique_ptr<Ops>> MakeCudaOps(Device*, const CudaOptions&) { return NotBuilt(); }

int64_t CudaGraphsLaunched(const Ops&) { return 0; }

}  // namespace ccoe::kernels
