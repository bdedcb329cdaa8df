// SPDX-License-Identifier: Apache-2.0
// Every kernel of matrix products and every tile, beside copies and cuBLASLt of the same run.
#include <cuda_runtime_api.h>

#include <string>
#include <vector>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/matmul.h"
#include "runtime/base/status_macros.h"
#include "tools/gpu_probe/bench_stream.h"
#include "tools/gpu_probe/probe.h"

namespace ccoe::probe {
namespace {

using kernels::DType;
using kernels::MatmulKind;
using kernels::Matrix;

enum class Kernel { kSkinny, kTile, kF32 };

struct Case {
  Kernel kernel;
  MatmulKind kind;
  int64_t rows;
  int tile_rows;
  bool fast = true, split = false;
};

const char* Name(Kernel kernel) {
  return kernel == Kernel::kSkinny ? "skinny" : kernel == Kernel::kTile ? "tile" : "f32";
}
const char* Name(MatmulKind kind) {
  return kind == MatmulKind::kPlain ? "plain" : kind == MatmulKind::kGated ? "gated" : "down";
}

// The most important first: decode, then prefill, then what is rarely seen.
std::vector<Case> Cases(bool small) {
  std::vector<Case> cases;
  for (MatmulKind kind : {MatmulKind::kPlain, MatmulKind::kGated, MatmulKind::kDown}) {
    for (int64_t rows : {1, 8, 16}) {
      cases.push_back({Kernel::kSkinny, kind, rows, rows <= 8 ? 8 : 16});
    }
    for (int tile : kernels::kTileRows) {
      for (int64_t rows : {int64_t{tile}, small ? int64_t{tile} + 1 : int64_t{2048}}) {
        cases.push_back({Kernel::kTile, kind, rows, tile});
      }
    }
  }
  for (int tile : kernels::kTileRows) {
    cases.push_back({Kernel::kTile, MatmulKind::kPlain, tile, tile, true, /*split=*/true});
  }
  for (MatmulKind kind : {MatmulKind::kPlain, MatmulKind::kGated, MatmulKind::kDown}) {
    cases.push_back({Kernel::kSkinny, kind, 16, 16, /*fast=*/false});
    cases.push_back({Kernel::kTile, kind, 128, 128, /*fast=*/false});
  }
  for (MatmulKind kind : {MatmulKind::kPlain, MatmulKind::kDown}) {
    cases.push_back({Kernel::kF32, kind, 4, kernels::kF32SmallRows});
    cases.push_back({Kernel::kF32, kind, 256, kernels::kF32LargeRows});
  }
  return cases;
}

// The shapes of a feed-forward of 7 B; the weights of several layers, so that none is still in the
// L2 cache when its turn comes again.
class MatmulBench {
 public:
  static absl::StatusOr<std::unique_ptr<MatmulBench>> Create(Probe* probe) {
    auto bench = std::make_unique<MatmulBench>();
    bench->probe_ = probe;
    if (probe->small()) {
      bench->k_ = 192;
      bench->cols_ = 160;
      bench->layers_ = 2;
    }
    CCOE_ASSIGN_OR_RETURN(bench->bench_, BenchStream::Create(probe));
    CCOE_RETURN_IF_ERROR(bench->Allocate());
    return bench;
  }

  absl::Status Copies() {
    const int64_t bytes = probe_->small() ? 4096 : int64_t{1} << 30;
    CCOE_ASSIGN_OR_RETURN(void* const from, bench_->Allocate(bytes));
    CCOE_ASSIGN_OR_RETURN(void* const to, bench_->Allocate(bytes));
    CCOE_ASSIGN_OR_RETURN(const double seconds, bench_->SecondsOf([&] {
      kernels::Stream* stream = bench_->stream();
      stream->Fail(kernels::CudaStatus(
          cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream->get()), "a copy"));
    }));
    probe_->Say({{"kernel", "copy"}, {"us", 1e6 * seconds}, {"gb_per_s", 2e-9 * bytes / seconds}});
    return absl::OkStatus();
  }

  absl::Status CublasLt(int64_t rows) {
    auto blas = kernels::Blas::Create();
    if (!blas.ok()) {
      probe_->Say({{"kernel", "cublaslt"}, {"not_run", std::string(blas.status().message())}});
      return absl::OkStatus();
    }
    kernels::BlasProduct product;
    product.x = x_bf16_.data;
    product.out = static_cast<float*>(out_.data);
    product.rows = rows;
    product.cols = product.out_stride = cols_;
    product.k = product.x_stride = product.weight_stride = k_;
    bool ran = true;
    CCOE_ASSIGN_OR_RETURN(const double seconds, bench_->SecondsOf([&] {
      product.weight = NextWeight();
      void* workspace = bench_->stream()->Workspace(kernels::Blas::kWorkspaceBytes);
      ran = ran && workspace != nullptr && (*blas)->Multiply(product, workspace, bench_->stream());
    }));
    if (!ran) return absl::InternalError("cuBLASLt has no algorithm");
    SayRate({{"kernel", "cublaslt"}, {"rows", rows}}, rows, 1, seconds);
    return absl::OkStatus();
  }

  absl::Status Measure(const Case& c) {
    CCOE_ASSIGN_OR_RETURN(const double seconds, bench_->SecondsOf([&] { Launch(c); }));
    SayRate({{"kernel", Name(c.kernel)},
             {"kind", Name(c.kind)},
             {"rows", c.rows},
             {"tile_rows", c.tile_rows},
             {"fast", c.fast},
             {"split", c.split}},
            c.rows, c.kind == MatmulKind::kGated ? 2 : 1, seconds);
    return absl::OkStatus();
  }

  void Launch(const Case& c) {
    kernels::MatmulParams params = ParamsOf(c);
    kernels::MatmulLaunch launch;
    launch.kind = c.kind;
    launch.fast = c.fast;
    kernels::Stream* const stream = bench_->stream();
    if (c.kernel == Kernel::kSkinny) {
      return kernels::CudaMatmulSkinny(stream, launch, c.tile_rows, &params);
    }
    if (c.kernel == Kernel::kF32) {
      return kernels::CudaMatmulF32(stream, launch, c.tile_rows, &params);
    }
    kernels::CudaMatmulTile(stream, launch, c.tile_rows, c.split, &params);
  }

  absl::Status Wait() { return bench_->stream()->Synchronize(); }

 private:
  absl::Status Allocate() {
    const int64_t rows = most_rows();
    for (int64_t i = 0; i < layers_; ++i) {
      CCOE_ASSIGN_OR_RETURN(const Matrix weight, bench_->Random(cols_, k_, DType::kBF16, 7 + i));
      weights_.push_back(weight.data);
    }
    CCOE_ASSIGN_OR_RETURN(x_bf16_, bench_->Random(rows, k_, DType::kBF16, 1));
    CCOE_ASSIGN_OR_RETURN(x_f32_, bench_->Random(rows, k_, DType::kF32, 2));
    CCOE_ASSIGN_OR_RETURN(out_, bench_->Random(rows, cols_, DType::kF32, 3));
    CCOE_ASSIGN_OR_RETURN(weights_of_rows_, bench_->Random(1, rows, DType::kF32, 4));
    CCOE_ASSIGN_OR_RETURN(partials_,
                          bench_->Random(kernels::kSegments * 128, cols_, DType::kF32, 5));
    std::vector<int32_t> order(static_cast<size_t>(rows));
    for (int64_t i = 0; i < rows; ++i) order[i] = static_cast<int32_t>(i);
    CCOE_ASSIGN_OR_RETURN(void* const data, bench_->Allocate(rows * 4));
    CCOE_ASSIGN_OR_RETURN(kernels::Device* const device, probe_->Device());
    out_rows_ = static_cast<const int32_t*>(data);
    return device->CopyFromHost(order.data(), data, order.size() * sizeof(int32_t));
  }

  int64_t most_rows() const { return probe_->small() ? 256 : 2048; }
  const void* NextWeight() { return weights_[next_++ % weights_.size()]; }

  kernels::MatmulParams ParamsOf(const Case& c) {
    kernels::MatmulParams params;
    kernels::ClearParams(&params);
    const bool tile = c.kernel == Kernel::kTile;
    params.x = tile ? x_bf16_.data : x_f32_.data;
    params.x_stride = k_;
    params.rows = c.rows;
    params.k = k_;
    params.part_count = 1;
    kernels::MatmulPart& part = params.parts[0];
    part.weight = NextWeight();
    part.up = NextWeight();
    part.stride = part.up_stride = k_;
    part.dtype = part.up_dtype = DType::kBF16;
    part.cols = cols_;
    part.out = static_cast<float*>(out_.data);
    params.out = part.out;
    params.inner = part.out;
    params.out_stride = params.inner_stride = part.out_stride = cols_;
    params.out_rows = out_rows_;
    params.weights = static_cast<const float*>(weights_of_rows_.data);
    params.partials = static_cast<float*>(partials_.data);
    params.partial_cols = cols_;
    return params;
  }

  void SayRate(Line line, int64_t rows, int64_t matrices, double seconds) {
    const double weights = static_cast<double>(matrices * cols_ * k_);
    line["k"] = k_;
    line["cols"] = cols_;
    line["us"] = 1e6 * seconds;
    line["gb_per_s"] = 1e-9 * 2 * weights / seconds;  // of weights
    line["tflop_per_s"] = 1e-12 * 2 * weights * static_cast<double>(rows) / seconds;
    probe_->Say(line);
  }

  Probe* probe_ = nullptr;
  std::unique_ptr<BenchStream> bench_;
  int64_t k_ = 4096, cols_ = 14336, layers_ = 6;
  size_t next_ = 0;
  std::vector<const void*> weights_;  // bf16 [cols, k]
  Matrix x_bf16_, x_f32_, out_, weights_of_rows_, partials_;
  const int32_t* out_rows_ = nullptr;
};

}  // namespace

absl::Status RunMatmul(Probe& probe) {
  CCOE_ASSIGN_OR_RETURN(const auto bench, MatmulBench::Create(&probe));
  CCOE_RETURN_IF_ERROR(bench->Copies());
  for (int64_t rows : {16, 128, probe.small() ? 256 : 2048}) {
    CCOE_RETURN_IF_ERROR(bench->CublasLt(rows));
  }
  for (const Case& c : Cases(probe.small())) {
    if (probe.left() < absl::Seconds(1)) {
      probe.Say({{"not_run", "the rest: no time left"}});
      break;
    }
    CCOE_RETURN_IF_ERROR(bench->Measure(c));
  }
  return absl::OkStatus();
}

// For a profiler: each kernel a few times, without a clock.
absl::Status RunProfiled(Probe& probe) {
  CCOE_ASSIGN_OR_RETURN(const auto bench, MatmulBench::Create(&probe));
  const Case decode = {Kernel::kSkinny, MatmulKind::kPlain, 1, 8};
  const Case prefill = {Kernel::kTile, MatmulKind::kPlain, probe.small() ? 256 : 2048, 128};
  const Case experts = {Kernel::kTile, MatmulKind::kGated, 64, 64};
  for (const Case& c : {decode, prefill, experts}) {
    for (int i = 0; i < 3; ++i) bench->Launch(c);
  }
  CCOE_RETURN_IF_ERROR(bench->Wait());
  probe.Say({{"what", "skinny plain, tile plain and tile gated were launched three times each"}});
  return absl::OkStatus();
}

}  // namespace ccoe::probe
