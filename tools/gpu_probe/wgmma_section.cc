// SPDX-License-Identifier: Apache-2.0
// Whether a chain of wgmma steps has mma.sync's bits: what a faster kernel on Hopper hangs on.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/half.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/stream.h"
#include "runtime/base/status_macros.h"
#include "tools/gpu_probe/probe.h"
#include "tools/gpu_probe/wgmma_chain.h"

namespace ccoe::probe {
namespace {

constexpr int64_t kFeatures = 1024;

std::vector<kernels::BF16> Values(int64_t count, uint32_t seed) {
  std::vector<kernels::BF16> values(static_cast<size_t>(count));
  for (kernels::BF16& value : values) {
    seed = seed * 1664525u + 1013904223u;
    kernels::FromF32(static_cast<float>(seed >> 8) / 8388608.0f - 1.0f, &value);
  }
  return values;
}

// Of the largest, whether it is a product of these operands at all: else the two are not compared.
double WorstError(const std::vector<kernels::BF16>& a, const std::vector<kernels::BF16>& b,
                  const std::vector<float>& found) {
  double worst = 0;
  for (int64_t row = 0; row < kChainRows; ++row) {
    for (int64_t col = 0; col < kChainCols; ++col) {
      double sum = 0;
      for (int64_t k = 0; k < kFeatures; ++k) {
        sum += static_cast<double>(kernels::ToF32(a[row * kFeatures + k])) *
               kernels::ToF32(b[col * kFeatures + k]);
      }
      worst = std::max(worst, std::abs(sum - found[row * kChainCols + col]));
    }
  }
  return worst;
}

}  // namespace

absl::StatusOr<Line> CompareWgmma() {
  CCOE_ASSIGN_OR_RETURN(const auto device, kernels::CudaDevice::Open(0));
  int major = 0;
  CCOE_RETURN_IF_ERROR(kernels::CudaStatus(
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "cuda:0"));
  if (major != 9) return absl::UnimplementedError("wgmma is of compute capability 9.0 alone");
  CCOE_ASSIGN_OR_RETURN(const auto stream, kernels::Stream::Create({}));
  const auto a = Values(kChainRows * kFeatures, 1), b = Values(kChainCols * kFeatures, 2);
  constexpr size_t kValues = kChainRows * kChainCols, kBytes = kValues * sizeof(float);
  CCOE_ASSIGN_OR_RETURN(const kernels::Buffer da, device->Allocate(a.size() * 2));
  CCOE_ASSIGN_OR_RETURN(const kernels::Buffer db, device->Allocate(b.size() * 2));
  CCOE_ASSIGN_OR_RETURN(const kernels::Buffer out, device->Allocate(2 * kBytes));
  CCOE_RETURN_IF_ERROR(device->CopyFromHost(a.data(), da.data(), a.size() * 2));
  CCOE_RETURN_IF_ERROR(device->CopyFromHost(b.data(), db.data(), b.size() * 2));
  ChainParams params;
  kernels::ClearParams(&params);
  params.a = static_cast<const uint16_t*>(da.data());
  params.b = static_cast<const uint16_t*>(db.data());
  params.by_mma = out.f32();
  params.by_wgmma = out.f32() + kValues;
  params.k = kFeatures;
  RunChains(stream.get(), params);
  CCOE_RETURN_IF_ERROR(stream->Synchronize());
  std::vector<float> mma(kValues), wgmma(kValues);
  CCOE_RETURN_IF_ERROR(device->CopyToHost(out.data(), mma.data(), kBytes));
  CCOE_RETURN_IF_ERROR(device->CopyToHost(params.by_wgmma, wgmma.data(), kBytes));
  int64_t same = 0;
  for (size_t i = 0; i < kValues; ++i) same += mma[i] == wgmma[i] ? 1 : 0;
  return Line{{"elements", kValues},
              {"same_bits", same},
              {"mma_error", WorstError(a, b, mma)},
              {"wgmma_error", WorstError(a, b, wgmma)}};
}

}  // namespace ccoe::probe
