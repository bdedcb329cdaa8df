// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/matmul.h"
#include "runtime/base/status_macros.h"
#include "tools/gpu_probe/bench_stream.h"
#include "tools/gpu_probe/probe.h"

namespace ccoe::probe {
namespace {

using kernels::DType;
using kernels::Matrix;

struct Size {
  int64_t rows, k, cols;
};

// What our tiles give.
absl::Status MultiplyByTiles(const Matrix& x, const Matrix& weight, const Matrix& out,
                             kernels::Stream* stream) {
  kernels::MatmulParams params;
  kernels::ClearParams(&params);
  params.x = x.data;
  params.x_stride = x.stride;
  params.rows = x.rows;
  params.k = x.cols;
  params.part_count = 1;
  params.parts[0].weight = weight.data;
  params.parts[0].stride = weight.stride;
  params.parts[0].cols = weight.rows;
  params.parts[0].dtype = weight.dtype;
  params.parts[0].out = static_cast<float*>(out.data);
  params.parts[0].out_stride = out.stride;
  kernels::MatmulLaunch launch;
  launch.fast = true;
  kernels::CudaMatmulTile(stream, launch, kernels::TileRowsFor(x.rows), /*split=*/false, &params);
  return stream->Synchronize();
}

// cuBLASLt over the segments of the features that our tiles add, each added to those before.
absl::StatusOr<bool> MultiplyBySegments(const Matrix& x, const Matrix& weight, const Matrix& out,
                                        kernels::Blas* blas, kernels::Stream* stream) {
  const int64_t length = kernels::SegmentLength(x.cols);
  for (int64_t begin = 0; begin < x.cols; begin += length) {
    kernels::BlasProduct product;
    product.x = static_cast<const char*>(x.data) + 2 * begin;
    product.weight = static_cast<const char*>(weight.data) + 2 * begin;
    product.out = static_cast<float*>(out.data);
    product.rows = x.rows;
    product.cols = weight.rows;
    product.k = std::min(length, x.cols - begin);
    product.x_stride = x.stride;
    product.weight_stride = weight.stride;
    product.out_stride = out.stride;
    product.accumulate = begin > 0;
    void* workspace = stream->Workspace(kernels::Blas::kWorkspaceBytes);
    if (workspace == nullptr || !blas->Multiply(product, workspace, stream)) return false;
  }
  CCOE_RETURN_IF_ERROR(stream->Synchronize());
  return true;
}

absl::StatusOr<std::vector<float>> Read(Probe& probe, const Matrix& matrix) {
  std::vector<float> values(static_cast<size_t>(matrix.rows * matrix.cols));
  CCOE_ASSIGN_OR_RETURN(kernels::Device* const device, probe.Device());
  CCOE_RETURN_IF_ERROR(
      device->CopyToHost(matrix.data, values.data(), values.size() * sizeof(float)));
  return values;
}

absl::Status CompareSegments(Probe& probe, const Size& size) {
  CCOE_ASSIGN_OR_RETURN(const auto bench, BenchStream::Create(&probe));
  auto blas = kernels::Blas::Create();
  if (!blas.ok()) {
    probe.Say(
        {{"what", "cublaslt over segments"}, {"not_run", std::string(blas.status().message())}});
    return absl::OkStatus();
  }
  CCOE_ASSIGN_OR_RETURN(const Matrix x, bench->Random(size.rows, size.k, DType::kBF16, 1));
  CCOE_ASSIGN_OR_RETURN(const Matrix weight, bench->Random(size.cols, size.k, DType::kBF16, 2));
  CCOE_ASSIGN_OR_RETURN(const Matrix ours, bench->Random(size.rows, size.cols, DType::kF32, 3));
  CCOE_ASSIGN_OR_RETURN(const Matrix theirs, bench->Random(size.rows, size.cols, DType::kF32, 4));
  CCOE_RETURN_IF_ERROR(MultiplyByTiles(x, weight, ours, bench->stream()));
  CCOE_ASSIGN_OR_RETURN(const bool ran,
                        MultiplyBySegments(x, weight, theirs, blas->get(), bench->stream()));
  if (!ran) return absl::InternalError("cuBLASLt has no algorithm for a segment");
  CCOE_ASSIGN_OR_RETURN(const std::vector<float> a, Read(probe, ours));
  CCOE_ASSIGN_OR_RETURN(const std::vector<float> b, Read(probe, theirs));
  int64_t same = 0;
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    same += std::memcmp(&a[i], &b[i], sizeof(float)) == 0 ? 1 : 0;
    worst = std::max(worst, std::abs(static_cast<double>(a[i]) - b[i]));
  }
  // Standard normal operands: sums of deviation sqrt(k), each step rounded.
  const double tolerance = 1e-5 * static_cast<double>(size.k);
  probe.Say({{"what", "cublaslt over segments"},
             {"rows", size.rows},
             {"k", size.k},
             {"cols", size.cols},
             {"elements", a.size()},
             {"same_bits", same},
             {"worst_difference", worst},
             {"ok", worst <= tolerance}});
  return absl::OkStatus();
}

}  // namespace

absl::Status RunBits(Probe& probe) {
  CCOE_RETURN_IF_ERROR(probe.Device().status());
  auto wgmma = CompareWgmma();
  Line line = {{"what", "wgmma and mma.sync"}};
  if (wgmma.ok()) {
    line.update(*wgmma);
    // Not a finding about bits where one of them is no product at all.
    line["ok"] = (*wgmma)["wgmma_error"] < 0.01 && (*wgmma)["mma_error"] < 0.01;
  } else {
    line["not_run"] = std::string(wgmma.status().message());
  }
  probe.Say(line);
  if (probe.small()) return CompareSegments(probe, {24, 320, 40});
  for (const Size& size : {Size{64, 4096, 4096}, Size{512, 4096, 14336}, Size{2048, 14336, 4096}}) {
    CCOE_RETURN_IF_ERROR(CompareSegments(probe, size));
  }
  return absl::OkStatus();
}

}  // namespace ccoe::probe
