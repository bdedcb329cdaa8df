// SPDX-License-Identifier: Apache-2.0
#include "absl/status/status.h"
#include "kernels/cuda/roofline/roofline.h"

namespace ccoe::kernels {
namespace {

absl::Status WithoutCuda() {
  return absl::UnimplementedError(
      "this binary was built without CUDA; build with --config=cuda where a CUDA toolkit is");
}

}  // namespace

absl::StatusOr<double> MeasureCudaReadBandwidth(int) { return WithoutCuda(); }

absl::StatusOr<double> MeasureCudaGemm(int, const CudaGemmShape&) { return WithoutCuda(); }

}  // namespace ccoe::kernels
