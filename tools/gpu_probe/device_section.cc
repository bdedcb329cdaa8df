// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/cuda/cublaslt_library.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/kernel_list.h"
#include "runtime/base/status_macros.h"
#include "tools/gpu_probe/probe.h"

namespace ccoe::probe {
namespace {

using kernels::CudaStatus;

// Attention over heads of 256, and what takes the sine of an f64: local_memory in
// kernels/cuda/BUILD.
bool MayUseLocalMemory(const std::string& kernel) {
  return kernel == "AnglesKernel" ||
         (absl::StartsWith(kernel, "MmaKernel<") && absl::StrContains(kernel, ", 256, "));
}

std::string Words(const absl::Status& status) {
  return status.ok() ? "there" : std::string(status.message());
}

}  // namespace

absl::Status RunDevice(Probe& probe) {
  int count = 0;
  const cudaError_t counted = cudaGetDeviceCount(&count);
  int driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  Line versions = {{"what", "versions"}, {"cuda_driver", driver}, {"cuda_runtime", runtime}};
  versions["cublaslt"] = Words(kernels::OpenCublasLt());
  versions.update(DescribeLibraries());
  probe.Say(versions);
  if (counted != cudaSuccess || count == 0) {
    return absl::NotFoundError(
        absl::StrCat("no CUDA device: ", count, " found: ", cudaGetErrorString(counted)));
  }
  cudaDeviceProp device;
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaGetDeviceProperties(&device, 0), "cuda:0"));
  size_t free = 0, total = 0;
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaSetDevice(0), "cuda:0"));
  CCOE_RETURN_IF_ERROR(CudaStatus(cudaMemGetInfo(&free, &total), "cuda:0"));
  probe.Say({{"what", "device"},
             {"name", device.name},
             {"devices", count},
             {"capability", absl::StrCat(device.major, ".", device.minor)},
             {"multiprocessors", device.multiProcessorCount},
             {"memory_bytes", total},
             {"free_bytes", free},
             {"l2_bytes", device.l2CacheSize},
             {"shared_bytes_of_a_block", device.sharedMemPerBlockOptin}});
  return probe.Device().status();
}

absl::Status RunKernels(Probe& probe) {
  CCOE_RETURN_IF_ERROR(probe.Device().status());
  int64_t bad = 0;
  for (const kernels::KernelEntry& entry : kernels::ListedKernels()) {
    const std::string name = kernels::KernelName(entry);
    cudaFuncAttributes attributes;
    CCOE_RETURN_IF_ERROR(CudaStatus(cudaFuncGetAttributes(&attributes, entry.kernel), name));
    Line line = {{"kernel", name},
                 {"registers", attributes.numRegs},
                 {"local_bytes", attributes.localSizeBytes},
                 {"shared_bytes", attributes.sharedSizeBytes},
                 {"most_threads", attributes.maxThreadsPerBlock}};
    if (attributes.localSizeBytes > 0 && !MayUseLocalMemory(name)) {
      line["ok"] = false;
      ++bad;
    }
    probe.Say(line);
  }
  probe.Say({{"what", "all kernels"},
             {"count", kernels::ListedKernels().size()},
             {"with_local_memory_that_should_have_none", bad}});
  return absl::OkStatus();
}

}  // namespace ccoe::probe
