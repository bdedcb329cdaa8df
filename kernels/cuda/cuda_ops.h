// SPDX-License-Identifier: Apache-2.0
// The CUDA devices and their ops, for compute capability 8.0 and newer. No CUDA includes: callers
// compile without a toolkit. A build without --config=cuda links stub.cc, where CudaDeviceCount()
// is 0 and the factories return UNIMPLEMENTED.
#ifndef CCOE_KERNELS_CUDA_CUDA_OPS_H_
#define CCOE_KERNELS_CUDA_CUDA_OPS_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "kernels/dtype.h"
#include "kernels/op_shapes.h"
#include "kernels/ops.h"

namespace ccoe::kernels {

struct CudaOptions {
  // The device that Ops run on; must be the one of the Device given to MakeCudaOps.
  int device = 0;
  // The determinism contract of ops.h: every row gives the same bits alone and in any batch. False:
  // large matrix products go to cuBLASLt, which is faster and keeps no such promise.
  bool deterministic = true;
  // What matrix products (Linear, GroupedFfn) multiply: kF32 keeps f32 (no TF32), kBF16 rounds both
  // operands to bf16 for the tensor cores. Sums are f32 either way.
  DType math = DType::kF32;
  // What Ops take of the device at creation, all of it: FitCudaOptions finds enough for a model.
  //
  // Through which host arrays (row ids, block tables, ...) reach the device; as much pinned host
  // memory. One call may use a quarter of it.
  size_t host_ring_bytes = size_t{32} << 20;
  // For intermediate values of a call. A call that needs more waits for the stream and allocates it
  // (see serving_thread.h).
  size_t workspace_bytes = size_t{64} << 20;
  // For host arrays of captured steps, so much a step; as much pinned host memory. Steps beyond run
  // plainly, and those whose arrays are larger.
  size_t graph_bytes = size_t{8} << 20;
  size_t graph_step_bytes = size_t{1} << 20;
};

// Sets what Ops take at creation to what calls of these shapes need at most. As OpenCudaDevice for
// options.device.
absl::Status FitCudaOptions(const OpShapes& shapes, CudaOptions* options);

// Device memory that MakeCudaOps takes, with the tables of MoE layers' experts. What CUDA itself
// takes for code and captured graphs comes on top.
inline int64_t CudaOpsBytes(const CudaOptions& options) {
  constexpr size_t kExpertTables = size_t{16} << 20;
  return static_cast<int64_t>(options.host_ring_bytes + options.workspace_bytes +
                              options.graph_bytes + kExpertTables);
}

// CUDA devices that this process can use; 0 without a driver, without a device, or in a build
// without CUDA.
int CudaDeviceCount();

// Device `index`, named "cuda:<index>". NOT_FOUND where there is none, FAILED_PRECONDITION where
// its compute capability is below 8.0, else what CUDA said. Copies are blocking and not ordered
// with ops in flight: Synchronize the Ops that use the memory first. Allocate waits for the device.
absl::StatusOr<std::unique_ptr<Device>> OpenCudaDevice(int index);

// Ops on one stream of `device`, which must outlive them and come from OpenCudaDevice. Errors of
// calls stick and are returned by the next Synchronize. INVALID_ARGUMENT for a math dtype other
// than f32 and bf16 or another device's index. Host spans of a call may be freed when it returns.
absl::StatusOr<std::unique_ptr<Ops>> MakeCudaOps(Device* device, const CudaOptions& options);

// How many steps given to RunCaptured these ops, of MakeCudaOps, have launched as graphs.
int64_t CudaGraphsLaunched(const Ops& ops);

}  // namespace ccoe::kernels

#endif  // CCOE_KERNELS_CUDA_CUDA_OPS_H_
