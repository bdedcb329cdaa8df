// SPDX-License-Identifier: Apache-2.0
#include "services/common/compute.h"

#include <stdlib.h>

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "kernels/cpu/cpu_ops.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace ccoe::services {
namespace {

constexpr int kMaxDevices = 1024;

// nullopt: the CPU.
absl::StatusOr<std::optional<int>> ParseDevice(absl::string_view name) {
  if (name == "cpu") return std::optional<int>();
  if (name == "cuda") return std::optional<int>(0);
  int index = -1;
  absl::string_view number = name;
  if (absl::ConsumePrefix(&number, "cuda:") && absl::SimpleAtoi(number, &index) && index >= 0 &&
      index < kMaxDevices) {
    return std::optional<int>(index);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("device: expected cpu, cuda or cuda:N, found \"", name, "\""));
}

}  // namespace

kernels::CudaOptions CudaOptionsOf(int device, const ComputeOptions& options) {
  kernels::CudaOptions cuda;
  cuda.device = device;
  cuda.math = options.math;
  cuda.deterministic = options.numerics == Numerics::kDeterministic;
  return cuda;
}

Compute::Compute(ThreadTeam* team) : team_(team), device_(&kernels::CpuDevice()) {
  CCOE_CHECK(team != nullptr);
}

Compute::Compute(kernels::Device* device, std::function<std::unique_ptr<kernels::Ops>()> make_ops)
    : team_(nullptr), make_ops_(std::move(make_ops)), device_(device) {
  CCOE_CHECK(device != nullptr && make_ops_ != nullptr);
}

absl::StatusOr<std::unique_ptr<Compute>> Compute::Create(const ComputeOptions& options,
                                                         ThreadTeam* team) {
  auto compute = std::make_unique<Compute>(team);
  CCOE_ASSIGN_OR_RETURN(compute->cuda_, ParseDevice(options.device));
  if (!compute->cuda_.has_value()) {
    if (options.numerics != Numerics::kDeterministic) {
      return absl::InvalidArgumentError(
          "numerics: fast is cuBLASLt's, of a GPU: expected deterministic for device cpu");
    }
    if (options.math != kernels::DType::kF32) {
      return absl::InvalidArgumentError(
          absl::StrCat("math: ", kernels::DTypeName(options.math),
                       " is of a GPU's matrix products: expected f32 for device cpu"));
    }
    return compute;
  }
  if (options.math != kernels::DType::kF32 && options.math != kernels::DType::kBF16) {
    return absl::InvalidArgumentError(
        absl::StrCat("math: expected f32 or bf16, found ", kernels::DTypeName(options.math)));
  }
  // Read when the driver starts: links' streams that share a hardware queue could wait for each
  // other.
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", /*overwrite=*/0);
  auto device = kernels::OpenCudaDevice(*compute->cuda_);
  if (!device.ok()) {
    return Annotate(device.status(), absl::StrCat("device ", options.device));
  }
  compute->options_ = options;
  compute->owned_ = *std::move(device);
  compute->device_ = compute->owned_.get();
  return compute;
}

absl::StatusOr<std::unique_ptr<kernels::Ops>> Compute::MakeOps(
    const kernels::OpShapes& shapes) const {
  if (make_ops_ != nullptr) return make_ops_();
  if (!cuda_.has_value()) return kernels::MakeCpuOps(team_);
  kernels::CudaOptions options = CudaOptionsOf(*cuda_, options_);
  CCOE_RETURN_IF_ERROR(kernels::FitCudaOptions(shapes, &options));
  return kernels::MakeCudaOps(device_, options);
}

absl::StatusOr<std::unique_ptr<kernels::Ops>> Compute::MakeOps() const {
  if (make_ops_ != nullptr) return make_ops_();
  if (!cuda_.has_value()) return kernels::MakeCpuOps(team_);
  return kernels::MakeCudaOps(device_, CudaOptionsOf(*cuda_, options_));
}

absl::StatusOr<int64_t> Compute::OpsBytes(const kernels::OpShapes& shapes) const {
  if (!cuda_.has_value()) return 0;
  kernels::CudaOptions options = CudaOptionsOf(*cuda_, options_);
  CCOE_RETURN_IF_ERROR(kernels::FitCudaOptions(shapes, &options));
  return kernels::CudaOpsBytes(options);
}

model::WeightTarget Compute::weights() const {
  model::WeightTarget target;
  if (!cuda_.has_value() && make_ops_ == nullptr) return target;
  target.device = device_;
  target.matrices = options_.math;
  return target;
}

}  // namespace ccoe::services
