// SPDX-License-Identifier: Apache-2.0
// What a process computes with: the host's cores or one GPU.
#ifndef CCOE_SERVICES_COMMON_COMPUTE_H_
#define CCOE_SERVICES_COMMON_COMPUTE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/device.h"
#include "kernels/dtype.h"
#include "kernels/op_shapes.h"
#include "kernels/ops.h"
#include "runtime/base/parallel.h"
#include "runtime/model/weights.h"

namespace ccoe::services {

// How a GPU sums matrix products. The CPU has the first alone.
enum class Numerics : uint8_t {
  kDeterministic,  // a row has the same bits in any batch: answers, failover and resume agree
  kFast,           // linears of more than 16 rows by cuBLASLt: faster, and no such promise
};

struct ComputeOptions {
  std::string device = "cpu";  // "cpu", "cuda" (the first GPU), "cuda:N"
  // On a GPU: what matrix products multiply, weights are kept as and KV caches hold: f32, or bf16.
  // The CPU reads weights as they are stored and computes in f32.
  kernels::DType math = kernels::DType::kF32;
  Numerics numerics = Numerics::kDeterministic;
};

// What ops of GPU `device` are made with, before they are fitted to a model.
kernels::CudaOptions CudaOptionsOf(int device, const ComputeOptions& options);

// Thread-safe. Outlives all Ops and weights that it made or placed.
class Compute {
 public:
  // `team` cuts the CPU's loops and must outlive this. Errors say what was expected of the device:
  // INVALID_ARGUMENT for another name, and for numerics that it has not, UNIMPLEMENTED in a build
  // without CUDA, NOT_FOUND without such a GPU.
  static absl::StatusOr<std::unique_ptr<Compute>> Create(const ComputeOptions& options,
                                                         ThreadTeam* team);
  // The CPU.
  explicit Compute(ThreadTeam* team);
  // A device of the caller's, whose ops `make_ops` gives: for tests.
  Compute(kernels::Device* device, std::function<std::unique_ptr<kernels::Ops>()> make_ops);

  // A new stream of execution, with memory of its own for calls of at most these shapes; without,
  // for benchmarks, it takes what it turns out to need.
  absl::StatusOr<std::unique_ptr<kernels::Ops>> MakeOps(const kernels::OpShapes& shapes) const;
  absl::StatusOr<std::unique_ptr<kernels::Ops>> MakeOps() const;
  // Device memory that MakeOps of the same takes, for memory plans.
  absl::StatusOr<int64_t> OpsBytes(const kernels::OpShapes& shapes) const;

  kernels::Device& device() const { return *device_; }
  // Where weights go and as what, for model::Weights::On.
  model::WeightTarget weights() const;
  kernels::DType kv_dtype() const {
    return cuda_.has_value() ? options_.math : kernels::DType::kF32;
  }
  // CUDA's number of the GPU; nullopt: the CPU.
  std::optional<int> cuda_device() const { return cuda_; }

 private:
  ThreadTeam* const team_;
  const std::function<std::unique_ptr<kernels::Ops>()> make_ops_;  // unset: what options_ say
  ComputeOptions options_;
  std::optional<int> cuda_;
  std::unique_ptr<kernels::Device> owned_;
  kernels::Device* device_;
};

}  // namespace ccoe::services

#endif  // CCOE_SERVICES_COMMON_COMPUTE_H_
